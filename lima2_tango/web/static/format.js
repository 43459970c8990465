// Numbers as people read them.
export const DASH = "–";

export function count(value) {
  return Number.isFinite(value) ? value.toLocaleString("en").replaceAll(",", "\u202f") : DASH;
}

export function value(number) {
  if (typeof number !== "number" || !Number.isFinite(number)) return number == null ? DASH : String(number);
  if (Number.isInteger(number) && Math.abs(number) < 1e7) return count(number);
  const size = Math.abs(number);
  if (size >= 1e4 && size < 1e7) return count(Math.round(number));
  return size !== 0 && (size < 1e-3 || size >= 1e7) ? short(number) : String(Number(number.toPrecision(5)));
}

export function rate(perSecond) {
  return perSecond > 0 ? `${value(Number(perSecond.toPrecision(3)))} /s` : DASH;
}

export function bytes(perSecond) {
  if (!(perSecond > 0)) return DASH;
  const units = ["B", "kB", "MB", "GB"];
  const step = Math.min(units.length - 1, Math.floor(Math.log10(perSecond) / 3));
  return `${(perSecond / 1000 ** step).toPrecision(3)} ${units[step]}/s`;
}

export function seconds(time) {
  if (time == null) return DASH;
  if (time < 60) return `${time.toFixed(time < 10 ? 1 : 0)} s`;
  const hours = Math.floor(time / 3600), minutes = Math.floor(time / 60) % 60;
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${Math.round(time % 60)} s`;
}

export function moment(iso) {
  const at = new Date(iso);
  return Number.isNaN(at.getTime()) ? DASH : at.toLocaleString("sv");
}

// 1.5e8 and not 1.500e+8.
function short(number) {
  const [digits, power] = number.toExponential(3).split("e");
  return `${Number(digits)}e${Number(power)}`;
}
