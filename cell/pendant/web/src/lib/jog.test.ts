import { describe, expect, it } from "vitest";
import { BEAT_MS, GAP_MS, initialJog, step, type JogEvent, type JogMessage, type JogState } from "./jog";

const press: JogEvent = { type: "press", now: 0, space: "joint", velocity: [0.1, 0] };
const tick = (now: number, seen: number | null = 1): JogEvent => ({ type: "tick", now, seen });

function play(events: JogEvent[], from: JogState = initialJog()): [JogState, JogMessage[]] {
  let state = from;
  const sent: JogMessage[] = [];
  for (const event of events) {
    const [next, messages] = step(state, event);
    state = next;
    sent.push(...messages);
  }
  return [state, sent];
}
const beats = (messages: JogMessage[]) => messages.filter((message) => "seq" in message);

describe("jog", () => {
  it("presses, beats with rising numbers, and stops once on release", () => {
    const [state, sent] = play([press, tick(0), tick(BEAT_MS), { type: "release" }, { type: "release" }]);
    expect(sent[0]).toEqual({ press: true });
    expect(beats(sent).map((beat) => "seq" in beat && beat.seq)).toEqual([1, 2]);
    expect(sent.filter((message) => "stop" in message)).toHaveLength(1);
    expect(sent[sent.length - 1]).toEqual({ stop: true });
    expect(state.phase).toBe("idle");
  });
  it("sends nothing without a press", () => {
    expect(play([tick(0), tick(80), { type: "release" }, { type: "drop", reason: "blur" }])[1]).toEqual([]);
  });
  it.each(["leave", "cancel", "blur", "hidden", "link"])("is over after %s until pressed again", (reason) => {
    const [state, sent] = play([press, tick(0), { type: "drop", reason }, tick(80), tick(160)]);
    expect(state.phase).toBe("dropped");
    expect(state.reason).toBe(reason);
    expect(beats(sent)).toHaveLength(1);
    const [again, more] = play([{ ...press, now: 500 } as JogEvent, tick(500)], state);
    expect(again.phase).toBe("running");
    expect(more[0]).toEqual({ press: true });
  });
  it("does not go on after the page stood still, nor when time runs back", () => {
    expect(play([press, tick(0), tick(GAP_MS + 1)])[0]).toMatchObject({ phase: "dropped", reason: "frozen" });
    expect(play([press, tick(100), tick(50)])[0].phase).toBe("dropped");
    expect(play([press, tick(0), tick(NaN)])[0].phase).toBe("dropped");
  });
  it("does not go on with old data", () => {
    expect(play([press, tick(0, null)])).toMatchObject([{ phase: "dropped" }, [{ press: true }, { stop: true }]]);
    expect(play([press, tick(0, NaN)])[0].phase).toBe("dropped");
  });
  it("drops when the server does, with its reason", () => {
    const [state] = play([press, tick(0), { type: "server", active: true, reason: "" }, { type: "server", active: false, reason: "locked" }]);
    expect(state).toMatchObject({ phase: "dropped", reason: "locked" });
  });
  it("takes no velocity that is not finite, and no second button", () => {
    expect(play([{ ...press, velocity: [NaN] } as JogEvent, tick(0)])[1]).toEqual([]);
    expect(play([press, tick(0), press])[0].phase).toBe("dropped");
  });
  it("never beats but while running: random sequences", () => {
    // A linear congruential generator: the same sequences on every machine.
    let seed = 12345;
    const random = (n: number) => (seed = (seed * 1103515245 + 12345) % 2147483648) % n;
    for (let run = 0; run < 100; run++) {
      let state = initialJog();
      let now = 0;
      for (let i = 0; i < 40; i++) {
        now += random(260);
        const events: JogEvent[] = [
          { ...press, now } as JogEvent,
          { type: "release" },
          { type: "drop", reason: "blur" },
          tick(now, random(8) ? now : null),
          tick(now),
          { type: "server", active: random(2) === 0, reason: "" },
        ];
        const before = state;
        const [next, messages] = step(before, events[random(events.length)]!);
        if (beats(messages).length) {
          expect(before.phase).toBe("running");
          expect(now - before.lastBeat).toBeLessThanOrEqual(GAP_MS);
        }
        if (before.phase === "running" && next.phase !== "running") expect(messages).toEqual([{ stop: true }]);
        expect(next.seq).toBeGreaterThanOrEqual(before.seq);
        state = next;
      }
    }
  });
});
