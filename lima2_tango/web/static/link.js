// The WebSocket: tells what came, and connects again where it is cut.
const LONGEST = 5000;

export class Link {
  constructor(on) {
    this.on = on;
    this.wait = 250;
    this.connect();
  }

  connect() {
    const address = new URL("live", location.href);
    address.protocol = address.protocol.replace("http", "ws");
    address.hash = "";
    const socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => { this.wait = 250; this.on.open(); };
    socket.onmessage = ({ data }) => (typeof data === "string" ? this.told(JSON.parse(data)) : this.on.picture(unpack(data)));
    socket.onclose = () => {
      this.on.lost();
      setTimeout(() => this.connect(), this.wait);
      this.wait = Math.min(LONGEST, this.wait * 2);
    };
    this.socket = socket;
  }

  told(message) {
    this.on[message.kind]?.(message);
  }

  say(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }
}

function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  return { ...header, indices: new Uint8Array(buffer, 4 + length) };
}
