// Questions and orders over HTTP. A refusal is thrown as {what, remedy}.
export class Refusal extends Error {
  constructor(error, path) {
    super(error.what);
    this.what = error.what;
    this.remedy = error.remedy;
    this.path = path;
  }
}

async function asked(address, options) {
  let response, answer;
  try {
    response = await fetch(address, options);
    answer = await response.json();
  } catch {
    throw new Refusal({ what: "The page's server does not answer.", remedy: "see whether lima2 web still runs, then reload" });
  }
  if (!response.ok) throw new Refusal(answer.error ?? { what: `Answer ${response.status}`, remedy: "reload the page" }, answer.path);
  return answer;
}

export const get = (address) => asked(address, {});

export const post = (address, order) =>
  asked(address, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(order) });

// Whether an address would answer with its content, which is not sent.
export async function look(address) {
  const answer = await fetch(address, { method: "HEAD" }).catch(() => null);
  if (!answer?.ok) await get(address);
}
