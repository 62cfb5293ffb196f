import type { Parameter } from "./types";

/** What is wrong with a value; `key` is a text key, `values` its figures. Null: nothing. */
export interface Fault {
  key: "param.required" | "param.number" | "param.integer" | "param.below" | "param.above" | "param.choice" | "param.few" | "param.many";
  values: Record<string, string | number>;
}

/** The default of each parameter, or the emptiest value of its type. */
export function defaults(parameters: Parameter[]): Record<string, unknown> {
  const empty = { number: "", integer: "", text: "", boolean: false, choice: "", list: [] };
  return Object.fromEntries(
    parameters.map((p) => [p.name, p.default !== null && p.default !== undefined ? structuredClone(p.default) : empty[p.type]]),
  );
}

/** Checks one value as the recipe declares it. The server checks again; this one answers while typing. */
export function check(parameter: Parameter, value: unknown): Fault | null {
  const { type, min, max, choices } = parameter;
  if (type === "number" || type === "integer") {
    if (value === "" || value === null || value === undefined) return { key: "param.required", values: {} };
    if (typeof value !== "number" || !Number.isFinite(value)) return { key: "param.number", values: {} };
    if (type === "integer" && !Number.isInteger(value)) return { key: "param.integer", values: {} };
    if (min !== null && value < min) return { key: "param.below", values: { min } };
    if (max !== null && value > max) return { key: "param.above", values: { max } };
    return null;
  }
  if (type === "list") {
    const items = Array.isArray(value) ? (value as unknown[]) : [];
    const least = min ?? 0;
    if (items.length < least) return { key: "param.few", values: { min: least } };
    if (max !== null && items.length > max) return { key: "param.many", values: { max } };
    if (choices && items.some((item) => !choices.includes(String(item)))) return { key: "param.choice", values: {} };
    return null;
  }
  if (type === "choice") {
    return choices?.includes(String(value)) ? null : { key: "param.choice", values: {} };
  }
  if (type === "text" && value === "") return { key: "param.required", values: {} };
  return null;
}

/** Moves an item of a list; a place outside leaves it as it was. */
export function moved<T>(items: readonly T[], from: number, to: number): T[] {
  const copy = [...items];
  if (from < 0 || from >= copy.length || to < 0 || to >= copy.length) return copy;
  const [item] = copy.splice(from, 1);
  copy.splice(to, 0, item as T);
  return copy;
}

/** Whether two settings are the same, whatever the order of their keys. */
export function same(a: unknown, b: unknown): boolean {
  if (Array.isArray(a) || Array.isArray(b)) {
    return Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.every((item, i) => same(item, b[i]));
  }
  if (typeof a === "object" && typeof b === "object" && a !== null && b !== null) {
    const keys = new Set([...Object.keys(a), ...Object.keys(b)]);
    return [...keys].every((key) => same((a as Record<string, unknown>)[key], (b as Record<string, unknown>)[key]));
  }
  return Object.is(a, b);
}
