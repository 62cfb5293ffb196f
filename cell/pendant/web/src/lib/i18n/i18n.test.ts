import { describe, expect, it } from "vitest";
import { de } from "./de";
import { en } from "./en";
import { zh } from "./zh";

const holes = (text: string) => [...text.matchAll(/\{\w+\}/g)].map(String).sort();

describe.each([
  ["de", de],
  ["zh", zh],
])("%s", (_, table) => {
  it("has the keys of English and the same figures in each text", () => {
    expect(Object.keys(table).sort()).toEqual(Object.keys(en).sort());
    for (const [key, text] of Object.entries(en)) {
      const other = table[key as keyof typeof en];
      expect(other.trim(), key).not.toBe("");
      expect(holes(other), key).toEqual(holes(text));
    }
  });
});
