// Keys, but not where somebody types.
import { $, make } from "./dom.js";

const ABOUT = [
  ["s", "start"], ["x", "stop"], ["t", "software trigger"], ["space", "hold the picture, and go on"],
  ["l", "linear, square root, log"], ["c", "next colour map"], ["m", "mask"], ["p", "move"], ["r", "draw a rectangle"],
  ["a", "draw an arc"], ["Enter", "put a region in the middle of the image, once it is clicked"], ["+ −", "zoom"], ["0", "whole frame"], ["← ↑ ↓ →", "move the image, once it is clicked"],
  ["d", "light or dark"], ["Esc", "leave what is being drawn"], ["?", "these keys"],
];
const FAR = 0.12;

export function keys({ start, stop, trigger, next, hold, tool, picture, theme, help, mask }) {
  const does = {
    s: start, x: stop, t: trigger, " ": hold, l: () => next("scale"), c: () => next("colours"), m: mask,
    p: () => tool("pan"), r: () => tool("rectangle"), a: () => tool("arc"),
    "+": () => picture.larger(), "=": () => picture.larger(), "-": () => picture.smaller(), 0: () => picture.fit(),
    ArrowLeft: () => picture.move(-FAR, 0), ArrowRight: () => picture.move(FAR, 0), ArrowUp: () => picture.move(0, -FAR), ArrowDown: () => picture.move(0, FAR),
    Enter: () => picture.middle(), d: theme, Escape: () => tool("pan"), "?": help,
  };
  $("key-list").append(...ABOUT.flatMap(([key, what]) => [make("dt", {}, key), make("dd", {}, what)]));
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea, dialog[open]"), pressed = event.target.closest("button, summary, a") && event.key === " ";
    const scrolls = (event.key.startsWith("Arrow") || event.key === "Enter") && event.target.id !== "image";
    if (typing || pressed || scrolls || event.ctrlKey || event.metaKey || event.altKey || !does[event.key]) return;
    event.preventDefault();
    does[event.key]();
  });
}
