import { CHINESE } from "./chinese.ts";

export type Language = "en" | "zh";

/** The page's language; what it shows follows. English texts are the keys of the other languages. */
export const language = $state<{ current: Language }>({ current: "en" });

/** The browser's language, if the page speaks it. */
export function preferredLanguage(): Language {
  return navigator.languages.some((tag) => /^en\b/i.test(tag)) || !navigator.languages.some((tag) => /^zh\b/i.test(tag))
    ? "en"
    : "zh";
}

/** Sets the language, also for screen readers. */
export function setLanguage(to: Language): void {
  language.current = to;
  document.documentElement.lang = to === "zh" ? "zh-Hans" : "en";
}

/** A text in the page's language; `{name}` stands for the value of that name. */
export function t(english: string, values: Readonly<Record<string, string | number>> = {}): string {
  const text = language.current === "zh" ? (CHINESE[english] ?? english) : english;
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}
