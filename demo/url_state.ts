/** What the page's address says, after the `#`. Every field is text or a number from a person, or from a stranger. */
export interface UrlState {
  tab?: string | undefined;
  lang?: string | undefined;
  model?: string | undefined;
  prompt?: string | undefined;
  seed?: string | undefined;
  layer?: number | undefined;
  head?: number | undefined;
}

/** An address is shared as a line of text; a longer prompt is left out. */
const MAX_PROMPT = 2000;
const MAX_INDEX = 4096;

/** Reads the part of an address after `#`. What is malformed is left out. */
export function readUrlState(hash: string): UrlState {
  const fields = new URLSearchParams(hash.replace(/^#/, ""));
  const text = (name: string, most: number) => {
    const value = fields.get(name);
    return value !== null && value.length <= most ? value : undefined;
  };
  const index = (name: string) => {
    const value = fields.get(name);
    return value !== null && /^\d{1,4}$/.test(value) && Number(value) < MAX_INDEX ? Number(value) : undefined;
  };
  const seed = text("seed", 16);
  return {
    ...{ tab: text("tab", 20), lang: text("lang", 8), model: modelOf(text("model", 300)) },
    ...{ prompt: text("prompt", MAX_PROMPT), seed: seed !== undefined && /^\d+$/.test(seed) ? seed : undefined },
    ...{ layer: index("layer"), head: index("head") },
  };
}

/** The part of an address after `#`; what is undefined or too long is left out. */
export function writeUrlState(state: UrlState): string {
  const fields = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (value === undefined || value === "" || (name === "prompt" && String(value).length > MAX_PROMPT)) continue;
    fields.set(name, String(value));
  }
  return `#${fields}`;
}

/** Only what a person could have typed: a Hub id or an https address. It is shown, and loaded when they say so. */
function modelOf(value: string | undefined): string | undefined {
  return value !== undefined && /^none$|^(hf:)?[\w.-]+\/[\w.-]+(@[\w./-]+)?$|^https:\/\/[^\s]+$/.test(value)
    ? value
    : undefined;
}
