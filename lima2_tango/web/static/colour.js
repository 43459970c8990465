// Colour maps: straight lines between control points. Those of viridis and inferno are from the maps that
// Nathaniel Smith and Stefan van der Walt published for matplotlib, free of rights (CC0).
const POINTS = {
  inferno: ["000004", "1b0c41", "4a0c6b", "781c6d", "a52c60", "cf4446", "ed6925", "fb9b06", "f7d13d", "fcffa4"],
  viridis: ["440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725"],
  grey: ["000000", "ffffff"],
  "grey, inverted": ["ffffff", "000000"],
};
export const NAMES = Object.keys(POINTS);
export const MASKED = 255;
const MASK = [0x3b, 0x5b, 0x7a];
const TOP = MASKED - 1;

// 256 colours as the canvas keeps them: one 32 bit word each, alpha first.
export function table(name) {
  const points = POINTS[name].map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const words = new Uint32Array(256);
  for (let index = 0; index <= TOP; index++) {
    const at = (index / TOP) * (points.length - 1), low = Math.min(Math.floor(at), points.length - 2), part = at - low;
    words[index] = word(points[low].map((from, i) => Math.round(from + part * (points[low + 1][i] - from))));
  }
  words[MASKED] = word(MASK);
  return words;
}

function word([red, green, blue]) {
  const bytes = new Uint8ClampedArray([red, green, blue, 255]);
  return new Uint32Array(bytes.buffer)[0];
}

// Colours of the regions: told apart on dark images and on both pages.
export const LINES = ["#23b1f5", "#ef5ad0", "#f28e2b", "#3fbf6f", "#8f7ee7", "#e15759", "#b3a125", "#7a8a99"];
