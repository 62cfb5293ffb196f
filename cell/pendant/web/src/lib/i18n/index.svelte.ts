import type { Language } from "../types";
import { de } from "./de";
import { en, type Key } from "./en";
import { zh } from "./zh";

export type { Key } from "./en";
const TABLES: Record<Language, Record<Key, string>> = { en, de, zh };
export const LANGUAGES: { code: Language; name: string }[] = [
  { code: "en", name: "English" },
  { code: "de", name: "Deutsch" },
  { code: "zh", name: "中文" },
];

class Locale {
  language = $state<Language>("en");
}
export const locale = new Locale();

export function isLanguage(value: unknown): value is Language {
  return value === "en" || value === "de" || value === "zh";
}

export function setLanguage(language: Language): void {
  locale.language = language;
  document.documentElement.lang = language === "zh" ? "zh-Hans" : language;
  localStorage.setItem("pendant.language", language);
}

export function storedLanguage(): Language {
  const stored = localStorage.getItem("pendant.language");
  if (isLanguage(stored)) return stored;
  const wanted = navigator.language.slice(0, 2);
  return isLanguage(wanted) ? wanted : "en";
}

/** Text of a key in the present language; `{name}` stands for a value. */
export function t(key: Key, values: Record<string, string | number> = {}): string {
  return TABLES[locale.language][key].replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
}

/** Text of a key built from data (a state's name, say), or the data itself where no such key exists. */
export function named(prefix: string, name: string): string {
  const table: Record<string, string> = TABLES[locale.language];
  return table[`${prefix}.${name}`] ?? name;
}
