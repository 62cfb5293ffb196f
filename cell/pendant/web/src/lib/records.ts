/** What the server keeps: runs, alarms, points, safety files. */

import type { Problem, Analysis } from "./types";

export interface Series {
  t: number[];
  separation: (number | null)[];
  required: (number | null)[];
  rate: (number | null)[];
  state?: [number, string][];
}
export interface RunSummary {
  id: string;
  began_wall: number;
  recipe: string;
  outcome: string;
  parts: number;
  batches: number;
  contacts: number | null;
  violations: number | null;
  time_stopped_s: number;
  time_slowed_s: number;
}
export interface Oee {
  availability: number | null;
  performance: number | null;
  quality: number | null;
  good: number;
  reworked: number;
  planned_s: number;
  running_s: number;
  stopped_for_people_s: number;
  cycle_times_s: number[];
  predicted_cycle_s: number;
}
export interface AlarmRecord {
  seq: number;
  wall: number;
  what: "raised" | "cleared" | "acknowledged";
  code: string;
  text: string | null;
  detail: string | null;
  reaction: string | null;
  first_out: boolean | null;
  person: string | null;
}
export interface Point {
  name: string;
  q: number[];
  T_base_tcp: number[];
  by: string;
  at_wall: number;
  comment: string;
}
export interface LedgerEvent {
  seq: number;
  wall: number;
  source: string;
  person?: string | null;
  kind: string;
  data: Record<string, unknown>;
}
export interface DiffEntry {
  path: string;
  before: unknown;
  after: unknown;
}
export interface Proposal {
  id: string;
  by: string;
  at_wall: number;
  comment: string;
  diff: DiffEntry[];
  fingerprint: string;
  state: "open" | "accepted" | "withdrawn" | "refused";
  accepted_by: string | null;
}
export interface SafetyDocument {
  file: string;
  config: Record<string, unknown>;
  schema: unknown;
  fingerprint: string;
  running_fingerprint?: string;
  restart_needed?: boolean;
  signatures: { name: string; at: string | number | null; fingerprint: string; valid: boolean }[];
  proposals: Proposal[];
  psd_defaults: Record<string, number>;
}
export interface ApiErrorBody {
  code: string;
  message: string;
  field: string;
  allowed: string;
  remedy: string;
  errors?: Problem[];
  analysis?: Analysis;
}
