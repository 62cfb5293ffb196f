import { decode } from "@msgpack/msgpack";
import { socketUrl } from "./api";
import type { Frame } from "./types";

/** All that has been told so far: the newest value of each key. */
export type Merged = Frame;

const ALWAYS = ["seq", "t", "wall", "age"] as const;

function isFrame(value: unknown): value is Frame {
  if (typeof value !== "object" || value === null) return false;
  const frame = value as Record<string, unknown>;
  return (
    Number.isFinite(frame["seq"]) &&
    Number.isFinite(frame["t"]) &&
    Number.isFinite(frame["wall"]) &&
    typeof frame["age"] === "object" &&
    frame["age"] !== null
  );
}

/**
 * Decodes one binary message.
 * @returns null for anything that is not a complete message
 */
export function decodeFrame(bytes: ArrayBuffer | Uint8Array): Frame | null {
  try {
    const value: unknown = decode(bytes);
    return isFrame(value) ? value : null;
  } catch {
    return null;
  }
}

/**
 * The newest value of each key. A message that is not newer than what is known changes nothing, except after the
 * server began anew (`seq` starts over with a full first message on a new socket: pass `before` as null then).
 * Keys the page does not know are kept.
 */
export function merge(before: Merged | null, frame: Frame): Merged {
  if (before === null) return frame;
  if (frame.seq <= before.seq) return before;
  return { ...before, ...frame };
}

/** Keys other than the ones every message has. */
export function changedKeys(frame: Frame): string[] {
  return Object.keys(frame).filter((key) => !(ALWAYS as readonly string[]).includes(key));
}

/** Coordinates in metres from packed little-endian int16 millimetres. */
export function metres(bytes: Uint8Array | undefined): Float32Array {
  if (!bytes) return new Float32Array(0);
  const count = Math.floor(bytes.byteLength / 6) * 3;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const out = new Float32Array(count);
  for (let i = 0; i < count; i++) out[i] = view.getInt16(2 * i, true) / 1000;
  return out;
}

/** Packed little-endian float32 as numbers; works for any alignment. */
export function floats(bytes: Uint8Array | undefined): Float32Array {
  if (!bytes) return new Float32Array(0);
  const copy = bytes.slice(0, Math.floor(bytes.byteLength / 4) * 4);
  return new Float32Array(copy.buffer, copy.byteOffset, copy.byteLength / 4);
}

const RETRY_MS = [200, 500, 1000, 2000];
const SILENT_MS = 3000;

/** Keeps a telemetry socket open; every newly opened socket begins with a full message. */
export class TelemetryLink {
  private socket: WebSocket | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private watchdog: ReturnType<typeof setInterval> | undefined;
  private attempts = 0;
  private wanted = false;
  private fresh = true;
  private lastArrival = 0;

  constructor(
    private readonly onFrame: (frame: Frame, first: boolean) => void,
    private readonly onLink: (open: boolean) => void,
    private readonly rate = 25,
  ) {}

  open(): void {
    this.wanted = true;
    this.connect();
    // A connection that is dead but not closed is given up, else the page would wait for TCP's time-out.
    this.watchdog ??= setInterval(() => {
      if (this.socket && performance.now() - this.lastArrival > SILENT_MS) this.socket.close();
    }, 1000);
  }

  close(): void {
    this.wanted = false;
    clearTimeout(this.timer);
    clearInterval(this.watchdog);
    this.watchdog = undefined;
    this.socket?.close();
    this.socket = null;
  }

  private connect(): void {
    if (!this.wanted || this.socket) return;
    const socket = new WebSocket(socketUrl(`/telemetry?rate=${this.rate}`, window.location));
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.fresh = true;
    this.lastArrival = performance.now();
    socket.onopen = () => this.onLink(true);
    socket.onmessage = (event: MessageEvent) => {
      if (!(event.data instanceof ArrayBuffer)) return;
      const frame = decodeFrame(event.data);
      if (!frame) return;
      this.attempts = 0;
      this.lastArrival = performance.now();
      this.onFrame(frame, this.fresh);
      this.fresh = false;
    };
    socket.onclose = () => {
      if (this.socket !== socket) return;
      this.socket = null;
      this.onLink(false);
      if (!this.wanted) return;
      const wait = RETRY_MS[Math.min(this.attempts++, RETRY_MS.length - 1)] ?? 2000;
      this.timer = setTimeout(() => this.connect(), wait);
    };
  }
}
