/**
 * Hold-to-run jogging. A pure state machine (`step`) and a thin binding to a socket and the page (`JogLink`).
 * The arm moves only while beats go out; everything that is not a steady, visible, held button ends them.
 */

export type JogSpace = "joint" | "base" | "tool";

/** Beat, ms; the server stops the arm when none has come for 200 ms. */
export const BEAT_MS = 80;
/** A gap between two beats longer than this means the page was frozen: pressing again is needed, ms. */
export const GAP_MS = 200;

export type JogEvent =
  | { type: "press"; now: number; space: JogSpace; velocity: number[] }
  | { type: "release" }
  | { type: "drop"; reason: string }
  | { type: "tick"; now: number; seen: number | null }
  | { type: "server"; active: boolean; reason: string };

export type JogMessage =
  | { press: true }
  | { stop: true }
  | { seq: number; space: JogSpace; velocity: number[]; seen: number };

export interface JogState {
  phase: "idle" | "running" | "dropped";
  seq: number;
  space: JogSpace;
  velocity: number[];
  lastBeat: number;
  /** The server has confirmed motion since the press: a later `active: false` is a drop, not the press being late. */
  confirmed: boolean;
  reason: string;
}

export function initialJog(): JogState {
  return { phase: "idle", seq: 0, space: "joint", velocity: [], lastBeat: 0, confirmed: false, reason: "" };
}

function stopped(state: JogState, phase: "idle" | "dropped", reason: string): [JogState, JogMessage[]] {
  const next: JogState = { ...state, phase, velocity: [], confirmed: false, reason };
  return [next, state.phase === "running" ? [{ stop: true }] : []];
}

/** Next state and what is to be sent now, in order. */
export function step(state: JogState, event: JogEvent): [JogState, JogMessage[]] {
  switch (event.type) {
    case "press": {
      const sound = event.velocity.length > 0 && event.velocity.every(Number.isFinite);
      if (state.phase === "running" || !sound) return stopped(state, "dropped", "press");
      const next: JogState = {
        ...state,
        phase: "running",
        space: event.space,
        velocity: [...event.velocity],
        lastBeat: event.now,
        confirmed: false,
        reason: "",
      };
      return [next, [{ press: true }]];
    }
    case "release":
      return stopped(state, "idle", "");
    case "drop":
      return state.phase === "running" ? stopped(state, "dropped", event.reason) : [state, []];
    case "server":
      if (event.active) return [{ ...state, confirmed: state.phase === "running" }, []];
      if (state.phase !== "running" || (!state.confirmed && !event.reason)) return [state, []];
      return stopped(state, "dropped", event.reason);
    case "tick": {
      if (state.phase !== "running") return [state, []];
      if (event.seen === null || !Number.isFinite(event.seen)) return stopped(state, "dropped", "stale");
      const gap = event.now - state.lastBeat;
      if (!(gap >= 0 && gap <= GAP_MS)) return stopped(state, "dropped", "frozen");
      const seq = state.seq + 1;
      const beat: JogMessage = { seq, space: state.space, velocity: state.velocity, seen: event.seen };
      return [{ ...state, seq, lastBeat: event.now }, [beat]];
    }
  }
}
