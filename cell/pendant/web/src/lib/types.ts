/** What the server sends. SI units, angles in rad; `t` is the machine's monotonic clock, `wall` Unix milliseconds. */

export type Role = "viewer" | "operator" | "programmer" | "safety_engineer" | "admin";
export type Language = "en" | "de" | "zh";
export type Mode = "automatic" | "manual";
export type CommandName =
  "Reset" | "Start" | "Stop" | "Hold" | "Unhold" | "Suspend" | "Unsuspend" | "Abort" | "Clear" | "Complete";

export interface Control {
  holder: string | null;
  mine: boolean;
  kind: "local" | "remote" | "display";
  since_wall: number | null;
  requested_by: string | null;
}

export interface User {
  name: string;
  role: Role;
  language?: Language | null;
  disabled?: boolean;
}

export interface Session {
  user: User | null;
  csrf: string | null;
  locked: boolean;
  control: Control;
  first_run: boolean;
  cell: { name: string; robot: string; model: string; simulated: boolean; fingerprint: string; version: string };
  idle_lock_s: number;
  languages: Language[];
}

export interface PackmlTable {
  states: { name: string; number: number; kind: "acting" | "wait" }[];
  commands: CommandName[];
  admitted: Record<string, CommandName[]>;
}

export interface Alarm {
  code: string;
  text: string;
  cause: string;
  remedy: string;
  reaction: "none" | "suspend" | "hold" | "abort";
  state: "active" | "acknowledged" | "cleared";
  raised_at: number;
  count: number;
  detail: string;
  first_out: boolean;
}

export interface Question {
  id: string;
  kind: "confirm" | "recovery";
  text: string;
  choices: string[];
  restocked?: boolean;
  picture?: string | null;
}

export type StepState = "open" | "waiting" | "running" | "done" | "failed" | "skipped";
export interface Step {
  step: number;
  operation: string;
  label: string;
  state: StepState;
}

export interface ResumeItem {
  what: "pose" | "part" | "person" | "tool";
  before: string;
  now: string;
  changed: boolean;
}

export interface Status {
  t: number;
  state: string;
  state_number: number;
  mode: Mode;
  recipe: string;
  operation: string;
  phase: string;
  step: number;
  steps: number;
  parts_done: number;
  batch: number;
  batches: number;
  cycle_times: number[];
  blocked_since: number;
  override: number;
  alarms: Alarm[];
  question: Question | null;
  fingerprint: string;
  predicted_cycle: number;
  blocked: Partial<Record<CommandName, string>>;
  stepping: "automatic" | "step" | "confirm_each";
  step_list: Step[];
  /** Values of the loaded recipe's parameters. */
  recipe_settings?: Record<string, unknown>;
  /** Stepping mode `step`: the next phase waits for a person. */
  waits?: boolean;
  /** Recipe being analysed for loading. */
  loading?: string;
  /** Why nothing can be moved by hand now; empty: it can. */
  manual_missing?: string;
  /** In Held: what there was when the arm came to stand, and what there is now. */
  resume?: ResumeItem[];
}

export interface RobotState {
  q: number[];
  dq: number[];
  tau: number[];
  q_commanded: number[];
  rate: number;
  limit: number;
  limit_by: string;
  limit_reason: string;
  override: number;
  mode: Mode;
  fault: string;
  fault_text: string;
  standing: boolean;
  gripper_width: number;
  gripper_holding: boolean;
  held: string | null;
  inputs: Record<string, boolean>;
  outputs: Record<string, boolean>;
  emergency_stop: boolean;
  safeguard: boolean;
  motion_id: string;
  progress: number;
  duration: number;
  tracking_error: number;
  manual_missing: string;
  /** Where the arm's own mode switch stands; null: it does not tell. */
  mode_switch?: Mode | null;
  devices?: {
    drives: "on" | "stopped" | "not_told";
    enabling: "held" | "released" | "button" | "not_needed" | "none" | "not_told";
  };
  T_base_tcp: number[] | null;
}

export interface Terms {
  S_h: number;
  S_r: number;
  S_s: number;
  C: number;
  Z_d: number;
  Z_r: number;
}

export interface SafetyState {
  limit: number;
  reason: string;
  separation: number | null;
  required: number;
  terms: Terms;
  link: string;
  point: number[] | null;
  seen: boolean;
  on_arm?: number[] | null;
  fingerprint?: string;
  simulation_only: boolean;
}

export interface Track {
  id: number;
  position: number[];
  velocity: number[];
}
export interface CameraState {
  name: string;
  ok: boolean;
  reason: string;
  valid_fraction: number;
  dropped: number;
}
export interface Cloud {
  seen: Uint8Array;
  possible: Uint8Array;
  seen_radius: Uint8Array;
  possible_radius: Uint8Array;
}
export interface SceneState {
  people?: { name: string; body: string; bones: Uint8Array }[];
  parts: { name: string; kind: string; pose: number[] }[];
}
export interface MotionPath {
  id: string;
  label: string;
  tcp: Uint8Array;
}
export interface Hull {
  links: { link: string; a: number[]; b: number[]; radius: number }[];
  required: number | null;
}
export type AgeKey = "status" | "robot" | "safety" | "observation";

/** One message of the telemetry socket: what is absent has not changed. */
export interface Frame {
  seq: number;
  t: number;
  wall: number;
  age: Partial<Record<AgeKey, number | null>>;
  status?: Status;
  robot?: RobotState;
  safety?: SafetyState;
  tracks?: Track[];
  skeletons?: unknown;
  cameras?: CameraState[];
  cloud?: Cloud;
  scene?: SceneState;
  motion?: MotionPath;
  hull?: Hull;
  control?: Control;
  /** Somebody has said since the cell came up that nobody is in it. */
  confirmed_clear?: boolean;
}

export type ParameterType = "number" | "integer" | "text" | "boolean" | "choice" | "list";
export interface Parameter {
  name: string;
  type: ParameterType;
  unit: string | null;
  min: number | null;
  max: number | null;
  default: unknown;
  choices: string[] | null;
  description: string;
}
export interface Problem {
  line: number | null;
  field: string;
  message: string;
  allowed?: string;
  remedy?: string;
}
export interface Analysis {
  ok: boolean;
  settings: Record<string, unknown>;
  batches: number;
  at_wall: number;
  fingerprint: string;
  predicted_cycle_s: number;
  phases: { step: number; operation: string; label: string; skill: string; duration_s: number }[];
  problems: Problem[];
}
export interface RecipeStep {
  index: number;
  operation: string;
  repeated?: boolean;
  skill: string;
  name?: string | null;
  params?: Record<string, unknown>;
  line?: number | null;
}
export interface Recipe {
  name: string;
  title: string;
  description: string;
  version: string;
  file: string;
  picture: string | null;
  capabilities: string[];
  parameters: Parameter[];
  steps: RecipeStep[];
  problems?: Problem[];
  library: boolean;
  changed_wall: number;
  analysis: Analysis | null;
  text?: string;
  hash?: string;
}

export interface Verdict {
  id?: string;
  verdict: "done" | "accepted" | "rejected" | "failed";
  reason: string;
  remedy: string;
  analysis?: Analysis;
}

export interface LinkMesh {
  url: string;
  T_link_mesh: number[];
  colour?: number[];
}
export interface ChainJoint {
  name: string;
  type: string;
  parent: string;
  child: string;
  T_parent_joint: number[];
  axis: number[];
}
export interface Fixture {
  name: string;
  size: number[];
  /** Row-major, 16 numbers. */
  T_base: number[];
  colour?: number[];
  visible?: boolean;
}
export interface PartType {
  shape: "box" | "cylinder";
  size: number[];
  colour?: number[];
}
/** A zone of the safety file. */
export interface Zone {
  name: string;
  automatic?: string;
  manual?: string | null;
  shape?: { kind: string; lower?: number[]; upper?: number[]; corners?: number[][]; z?: number[] | null };
  [key: string]: unknown;
}
/** A zone as it is drawn; a height that is null has no end. */
export interface ZoneOutline {
  name: string;
  automatic: string;
  manual: string;
  outline: number[][];
  z: (number | null)[];
  speed: number | null;
}
export interface CellModel {
  name: string;
  robot: {
    model: string;
    dof: number;
    joints: { name: string; lower: number; upper: number; v_max: number; prismatic?: boolean }[];
    home: number[];
    T_base_tool: number[] | null;
    links: { name: string; meshes: LinkMesh[] }[];
    finger_joints?: string[];
    gripper_max?: number;
    joint_chain: ChainJoint[];
  };
  fixtures: Fixture[];
  parts: Record<string, PartType>;
  frames: Record<string, unknown>;
  patterns: Record<string, unknown>;
  cameras: { name: string; model: string; T_base_camera: number[]; width: number; height: number; fov: number }[];
  zones: ZoneOutline[];
  keep_out: unknown[];
  person_volume: number[][] | null;
  floor: number;
  entries: string[];
    /** File of the body of each kind of simulated person; null on a real cell. */
  body: Record<string, string> | null;
}

export type * from "./records";
