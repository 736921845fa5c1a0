/** The forms of an English verb; a phrase such as "get up" inflects its first word. */
export interface Verb {
  readonly base: string;
  readonly third: string;
  readonly past: string;
  readonly participle: string;
  readonly ing: string;
}

/** How a subject agrees: I am, she is, they are. "you" counts as plural. */
export type Agreement = "first" | "third" | "plural";

const DOUBLED = /^(swim|run|sit|get|put|cut|shop|chat|begin|plan|stop|win|forget|travel)$/;

/** The forms of a verb: regular ones from its spelling, irregular past and participle as given. */
export function verb(phrase: string, pastForm?: string, participleForm?: string): Verb {
  const [base = "", ...others] = phrase.split(" ");
  const tail = others.length > 0 ? ` ${others.join(" ")}` : "";
  const past = pastForm ?? regularPast(base);
  return {
    base: base + tail,
    third: thirdPerson(base) + tail,
    past: past + tail,
    participle: (participleForm ?? past) + tail,
    ing: ingForm(base) + tail,
  };
}

function thirdPerson(base: string): string {
  if (base === "have") return "has";
  if (/(s|x|z|ch|sh|o)$/.test(base)) return `${base}es`;
  return /[^aeiou]y$/.test(base) ? `${base.slice(0, -1)}ies` : `${base}s`;
}

function regularPast(base: string): string {
  if (base.endsWith("e")) return `${base}d`;
  if (/[^aeiou]y$/.test(base)) return `${base.slice(0, -1)}ied`;
  return DOUBLED.test(base) && base !== "travel" ? `${base}${base.at(-1)}ed` : `${base}ed`;
}

function ingForm(base: string): string {
  if (/[^e]e$/.test(base)) return `${base.slice(0, -1)}ing`;
  return DOUBLED.test(base) && base !== "travel" ? `${base}${base.at(-1)}ing` : `${base}ing`;
}

const IRREGULAR_PLURALS: Readonly<Record<string, string>> = {
  child: "children",
  man: "men",
  woman: "women",
  person: "people",
  "police officer": "police officers",
  fish: "fish",
  series: "series",
  sheep: "sheep",
  wife: "wives",
  knife: "knives",
  scarf: "scarves",
  leaf: "leaves",
};

/** The plural of a countable noun; the last word of a compound inflects. */
export function plural(noun: string): string {
  const known = IRREGULAR_PLURALS[noun];
  if (known !== undefined) return known;
  const space = noun.lastIndexOf(" ");
  if (space >= 0) return `${noun.slice(0, space + 1)}${plural(noun.slice(space + 1))}`;
  if (/[^aeiou]y$/.test(noun)) return `${noun.slice(0, -1)}ies`;
  if (/(s|x|z|ch|sh|ato)$/.test(noun)) return `${noun}es`;
  return `${noun}s`;
}

/** "a" or "an" before a word, by its sound. */
export function article(word: string): string {
  return /^(hour|honest|[aeiou])/i.test(word) && !/^(uni|use|one|euro)/i.test(word) ? "an" : "a";
}

/** A word or phrase with its article: "an old book". */
export function withArticle(phrase: string): string {
  return `${article(phrase)} ${phrase}`;
}

/** am, is or are. */
export function be(agreement: Agreement): string {
  return { first: "am", third: "is", plural: "are" }[agreement];
}

/** was or were. */
export function was(agreement: Agreement): string {
  return agreement === "plural" ? "were" : "was";
}

/** do or does. */
export function does(agreement: Agreement): string {
  return agreement === "third" ? "does" : "do";
}

/** have or has. */
export function has(agreement: Agreement): string {
  return agreement === "third" ? "has" : "have";
}

/** The present form of a verb after a subject. */
export function present(form: Verb, agreement: Agreement): string {
  return agreement === "third" ? form.third : form.base;
}

/** A sentence's first letter in upper case. */
export function capitalise(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

const ONES = [
  "zero",
  "one",
  "two",
  "three",
  "four",
  "five",
  "six",
  "seven",
  "eight",
  "nine",
  "ten",
  "eleven",
  "twelve",
  "thirteen",
  "fourteen",
  "fifteen",
  "sixteen",
  "seventeen",
  "eighteen",
  "nineteen",
];
const TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];

/** A number from 0 to 999 in words: "one hundred and twenty-five". */
export function numberInWords(n: number): string {
  if (n >= 100) {
    const rest = n % 100;
    return `${ONES[Math.floor(n / 100)]} hundred${rest > 0 ? ` and ${numberInWords(rest)}` : ""}`;
  }
  if (n < 20) return ONES[n] ?? "";
  return `${TENS[Math.floor(n / 10)]}${n % 10 > 0 ? `-${ONES[n % 10]}` : ""}`;
}
