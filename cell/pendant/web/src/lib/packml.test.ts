import { describe, expect, it } from "vitest";
import csv from "../../../../data/packml.csv?raw";
import { admission, COMMANDS, type Situation } from "./packml";
import type { CommandName, PackmlTable, Role, Status } from "./types";

// The product's own table, so that page and controller cannot part ways.
const rows = csv
  .trim()
  .split("\n")
  .slice(1)
  .map((line) => line.split(","));
const admitted: Record<string, CommandName[]> = {};
for (const [from, trigger, to, , , kind] of rows) {
  admitted[from!] ??= [];
  admitted[to!] ??= [];
  if (kind === "command") admitted[from!]!.push(trigger as CommandName);
}
const table: PackmlTable = { states: [], commands: COMMANDS, admitted };
const situation = (state: string, more: Partial<Situation> = {}): Situation => ({
  table,
  status: { state, blocked: {} } as Status,
  stale: false,
  locked: false,
  role: "operator",
  mine: true,
  holder: "olga",
  byHand: false,
  ...more,
});

describe("PackML buttons", () => {
  it("knows all 17 states", () => expect(Object.keys(admitted)).toHaveLength(17));
  for (const state of Object.keys(admitted)) {
    it(`in ${state} are enabled exactly as the table says`, () => {
      for (const command of COMMANDS) {
        const permitted = admitted[state]!.includes(command);
        expect(admission(command, situation(state)).kind === "ok", command).toBe(permitted);
      }
    });
  }
  it("leave Stop when the data is stale, unknown or the page locked, and nothing else", () => {
    for (const more of [{ stale: true }, { table: null }, { status: null }] as Partial<Situation>[]) {
      for (const command of COMMANDS) {
        expect(admission(command, situation("Execute", more)).kind === "ok").toBe(command === "Stop");
      }
    }
    const locked = COMMANDS.filter((command) => admission(command, situation("Execute", { locked: true })).kind === "ok");
    expect(locked).toEqual(["Stop"]);
  });
  it("without control stop and hold, and name the holder for the rest", () => {
    const s = situation("Execute", { mine: false, holder: "otto" });
    const open = COMMANDS.filter((command) => admission(command, s).kind === "ok");
    expect(open.sort()).toEqual(["Abort", "Hold", "Stop"]);
    expect(admission("Complete", s)).toEqual({ kind: "control", holder: "otto" });
  });
  it.each(["viewer", "safety_engineer", "admin", null] as (Role | null)[])("are all off for %s", (role) => {
    expect(COMMANDS.some((command) => admission(command, situation("Execute", { role })).kind === "ok")).toBe(false);
  });
  it("say what the cell objects to, but never for a stop", () => {
    const status = { state: "Idle", blocked: { Start: "no recipe is loaded", Stop: "no" } } as unknown as Status;
    expect(admission("Start", situation("Idle", { status }))).toEqual({ kind: "cell", reason: "no recipe is loaded" });
    expect(admission("Stop", situation("Idle", { status })).kind).toBe("ok");
  });
  it("stop a motion by hand in every state", () => {
    for (const state of Object.keys(admitted)) expect(admission("Stop", situation(state, { byHand: true })).kind).toBe("ok");
  });
});
