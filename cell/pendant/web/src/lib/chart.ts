import { WINDOW_S, type Sample } from "./history";

export interface ChartStyle {
  ground: string;
  grid: string;
  text: string;
  separation: string;
  required: string;
  rate: string;
  warn: string;
}
export interface ChartText {
  distance: string;
  rate: string;
  state: (name: string) => string;
}
export interface Band {
  from: number;
  to: number;
  state: string;
}

export const LEFT = 46;
export const RIGHT = 8;
const TOP = 18;
const GAP = 34;
const BOTTOM = 38;
const BAND = 17;
/** States in which the work stands. */
const STANDS = /^(Hold|Held|Suspend|Stop|Abort|Clear)/;
/** Distances above this change nothing for a person who looks at the chart, m. */
export const TOP_DISTANCE = 3;

/** Runs of samples between which nothing is missing; a hole of more than `hole` seconds ends a run. */
export function runs(samples: Sample[], key: "separation" | "required" | "rate", hole: number): [number, number][][] {
  const out: [number, number][][] = [];
  let run: [number, number][] = [];
  for (const sample of samples) {
    const value = sample[key];
    const last = run[run.length - 1];
    if (value === null || !Number.isFinite(value) || (last && sample.t - last[0] > hole)) {
      if (run.length) out.push(run);
      run = [];
    }
    if (value !== null && Number.isFinite(value)) run.push([sample.t, value]);
  }
  if (run.length) out.push(run);
  return out;
}

/** Stretches of one state in [from, to], in order. */
export function bands(samples: Sample[], from: number, to: number): Band[] {
  const out: Band[] = [];
  samples.forEach((sample, i) => {
    const end = Math.min(samples[i + 1]?.t ?? to, to);
    const begin = Math.max(sample.t, from);
    if (!(end > begin)) return;
    const last = out[out.length - 1];
    if (last?.state === sample.state) last.to = end;
    else out.push({ from: begin, to: end, state: sample.state });
  });
  return out;
}

/** Draws distance over rate over state for the stretch [from, to] of time. `width`, `height` in CSS pixels. */
export function draw(
  context: CanvasRenderingContext2D,
  width: number,
  height: number,
  samples: Sample[],
  from: number,
  to: number,
  style: ChartStyle,
  text: ChartText,
  cursor: number | null = null,
): void {
  context.clearRect(0, 0, width, height);
  const rateHeight = Math.max(40, (height - TOP - GAP - BOTTOM) * 0.3);
  const distanceHeight = height - TOP - GAP - BOTTOM - rateHeight;
  const x = (t: number) => LEFT + ((t - from) / (to - from)) * (width - LEFT - RIGHT);
  const distance = (m: number) => TOP + distanceHeight * (1 - Math.max(0, Math.min(m, TOP_DISTANCE)) / TOP_DISTANCE);
  const rateTop = TOP + distanceHeight + GAP;
  const rate = (r: number) => rateTop + rateHeight * (1 - Math.max(0, Math.min(1, r)));
  const hole = Math.max(0.5, ((to - from) / 600) * 4);

  context.font = "12px system-ui, sans-serif";
  context.lineWidth = 1;
  context.fillStyle = style.text;
  context.strokeStyle = style.grid;
  const line = (y: number, label: string) => {
    context.beginPath();
    context.moveTo(LEFT, y);
    context.lineTo(width - RIGHT, y);
    context.stroke();
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.fillText(label, LEFT - 5, y);
  };
  for (let m = 0; m <= TOP_DISTANCE; m++) line(distance(m), String(m));
  line(rate(0), "0");
  line(rate(1), "100");
  context.textAlign = "left";
  context.textBaseline = "alphabetic";
  context.fillText(text.distance, LEFT, TOP - 6);
  context.fillText(text.rate, LEFT, rateTop - 6);
  context.textBaseline = "top";
  const tick = to - from > 600 ? 120 : to - from > 150 ? 30 : 10;
  for (let back = 0; back <= to - from + 0.01; back += tick) {
    context.textAlign = back === 0 ? "right" : "center";
    context.fillText(back === 0 ? "0 s" : `−${Math.round(back)}`, x(to - back), height - BOTTOM + 4);
  }

  context.save();
  context.beginPath();
  context.rect(LEFT, 0, width - LEFT - RIGHT, height);
  context.clip();
  const path = (key: "separation" | "required" | "rate", y: (value: number) => number, colour: string, dash: number[]) => {
    context.strokeStyle = colour;
    context.lineWidth = 2;
    context.setLineDash(dash);
    for (const run of runs(samples, key, hole)) {
      context.beginPath();
      run.forEach(([t, value], i) => (i ? context.lineTo(x(t), y(value)) : context.moveTo(x(t), y(value))));
      context.stroke();
    }
    context.setLineDash([]);
  };
  path("required", distance, style.required, [6, 4]);
  path("separation", distance, style.separation, []);
  path("rate", rate, style.rate, []);
  for (const band of bands(samples, from, to)) {
    const [left, right] = [x(band.from), x(band.to)];
    context.globalAlpha = 0.4;
    context.fillStyle = STANDS.test(band.state) ? style.warn : style.grid;
    if (band.state) context.fillRect(left, height - BAND - 1, right - left - 1, BAND);
    context.globalAlpha = 1;
    context.fillStyle = style.text;
    context.textAlign = "left";
    context.textBaseline = "middle";
    const name = band.state && text.state(band.state);
    if (name && context.measureText(name).width < right - left - 6) context.fillText(name, left + 3, height - BAND / 2 - 1);
  }
  if (cursor !== null) {
    context.strokeStyle = style.text;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x(cursor), TOP);
    context.lineTo(x(cursor), height - 1);
    context.stroke();
  }
  context.restore();
}

export function liveWindow(samples: Sample[]): [number, number] {
  const to = samples[samples.length - 1]?.t ?? 0;
  return [to - WINDOW_S, to];
}
