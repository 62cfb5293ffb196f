import { socketUrl } from "./api";
import { BEAT_MS, initialJog, step, type JogEvent, type JogSpace, type JogState } from "./jog";

/** Bytes still waiting in the socket mean the link stands: what is sent now would arrive late. */
const BACKLOG_BYTES = 512;
const RETRY_MS = 1000;

/** Binds the state machine to the jog socket and to everything that must end a jog. One per open Teach page. */
export class JogLink {
  private socket: WebSocket | null = null;
  private ready = false;
  private state: JogState = initialJog();
  private beat: ReturnType<typeof setInterval> | undefined;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private readonly abort = new AbortController();

  /**
   * @param csrf token of the session, sent first
   * @param seen `t` of the newest telemetry that is not stale, else null
   * @param onChange state and link after each event
   */
  constructor(
    private readonly csrf: () => string | null,
    private readonly seen: () => number | null,
    private readonly onChange: (state: JogState, linked: boolean) => void,
  ) {
    const signal = this.abort.signal;
    const drop = (reason: string) => () => this.feed({ type: "drop", reason });
    window.addEventListener("blur", drop("blur"), { signal });
    window.addEventListener("pagehide", drop("hidden"), { signal });
    window.addEventListener("contextmenu", drop("cancel"), { signal });
    document.addEventListener("freeze", drop("frozen"), { signal });
    document.addEventListener(
      "visibilitychange",
      () => document.visibilityState !== "visible" && this.feed({ type: "drop", reason: "hidden" }),
      { signal },
    );
    this.connect();
  }

  press(space: JogSpace, velocity: number[]): void {
    if (!this.ready) return;
    this.feed({ type: "press", now: performance.now(), space, velocity });
    this.tick();
    clearInterval(this.beat);
    this.beat = setInterval(() => this.tick(), BEAT_MS);
  }

  release(): void {
    this.feed({ type: "release" });
  }

  drop(reason: string): void {
    this.feed({ type: "drop", reason });
  }

  dispose(): void {
    this.feed({ type: "drop", reason: "closed" });
    this.abort.abort();
    clearTimeout(this.retry);
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }

  private tick(): void {
    if ((this.socket?.bufferedAmount ?? Infinity) > BACKLOG_BYTES) this.feed({ type: "drop", reason: "link" });
    else this.feed({ type: "tick", now: performance.now(), seen: this.seen() });
  }

  private feed(event: JogEvent): void {
    const [next, messages] = step(this.state, event);
    this.state = next;
    const socket = this.socket;
    if (socket?.readyState === WebSocket.OPEN) for (const message of messages) socket.send(JSON.stringify(message));
    if (next.phase !== "running") clearInterval(this.beat);
    this.onChange(next, this.ready);
  }

  private connect(): void {
    if (this.abort.signal.aborted) return;
    const socket = new WebSocket(socketUrl("/jog", window.location));
    this.socket = socket;
    socket.onopen = () => {
      socket.send(JSON.stringify({ csrf: this.csrf() }));
      this.ready = true;
      this.onChange(this.state, true);
    };
    socket.onmessage = (event: MessageEvent) => {
      try {
        const answer: unknown = JSON.parse(String(event.data));
        if (typeof answer !== "object" || answer === null) return;
        const { active, reason } = answer as { active?: unknown; reason?: unknown };
        this.feed({ type: "server", active: active === true, reason: typeof reason === "string" ? reason : "" });
      } catch {
        this.feed({ type: "drop", reason: "link" });
      }
    };
    socket.onclose = () => {
      if (this.socket !== socket) return;
      this.socket = null;
      this.ready = false;
      this.feed({ type: "drop", reason: "link" });
      this.retry = setTimeout(() => this.connect(), RETRY_MS);
    };
  }
}
