import { encode } from "@msgpack/msgpack";
import { describe, expect, it } from "vitest";
import { changedKeys, decodeFrame, floats, merge, metres } from "./telemetry";
import type { Frame } from "./types";

const frame = (seq: number, more: Partial<Frame> = {}): Frame => ({ seq, t: seq, wall: 1000 * seq, age: {}, ...more });

describe("decodeFrame", () => {
  it("reads what msgpack wrote", () => {
    expect(decodeFrame(encode(frame(3, { tracks: [] })))).toEqual(frame(3, { tracks: [] }));
  });
  it.each([
    ["no map", encode([1, 2])],
    ["no seq", encode({ t: 1, wall: 1, age: {} })],
    ["NaN time", encode({ seq: 1, t: NaN, wall: 1, age: {} })],
    ["no age", encode({ seq: 1, t: 1, wall: 1 })],
    ["cut off", encode(frame(1)).slice(0, 5)],
    ["empty", new Uint8Array()],
  ])("refuses %s", (_, bytes) => {
    expect(decodeFrame(bytes)).toBeNull();
  });
});

describe("merge", () => {
  it("keeps what a message leaves out", () => {
    const first = frame(1, { tracks: [{ id: 1, position: [0, 0, 0], velocity: [0, 0, 0] }] });
    const merged = merge(first, frame(2, { cameras: [] }));
    expect(merged.tracks).toBe(first.tracks);
    expect(merged.cameras).toEqual([]);
    expect(merged.t).toBe(2);
  });
  it("takes nothing from an older or repeated message", () => {
    const now = frame(5, { cameras: [] });
    expect(merge(now, frame(5))).toBe(now);
    expect(merge(now, frame(4))).toBe(now);
  });
  it("forgets everything at the first message of a new socket", () => {
    expect(merge(null, frame(1)).cameras).toBeUndefined();
  });
  it("gives the same as all messages at once, however they are split", () => {
    const messages = [frame(1, { tracks: [] }), frame(2, { cameras: [] }), frame(3, { tracks: [] })];
    const merged = messages.reduce<Frame | null>(merge, null);
    expect(merged).toEqual(Object.assign({}, ...messages));
    expect(changedKeys(messages[1]!)).toEqual(["cameras"]);
  });
});

describe("packed numbers", () => {
  it("reads millimetres from any place in a buffer", () => {
    const bytes = new Uint8Array([9, 0xe8, 3, 0x18, 0xfc, 0, 0]).subarray(1);
    expect([...metres(bytes)]).toEqual([1, -1, 0]);
    expect(metres(undefined)).toHaveLength(0);
    expect(metres(bytes.subarray(0, 5))).toHaveLength(0);
  });
  it("reads floats from any place in a buffer", () => {
    const raw = new Uint8Array(9);
    new DataView(raw.buffer).setFloat32(1, 2.5, true);
    new DataView(raw.buffer).setFloat32(5, -1, true);
    expect([...floats(raw.subarray(1))]).toEqual([2.5, -1]);
  });
});
