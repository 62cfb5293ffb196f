import { Api, ApiError } from "./api";
import { History } from "./history";
import { setLanguage, t } from "./i18n/index.svelte";
import { admission, mayOperate, type Why } from "./packml";
import { freshness, type Freshness } from "./stale";
import { merge, TelemetryLink, type Merged } from "./telemetry";
import type {
  Analysis,
  CellModel,
  CommandName,
  Control,
  Frame,
  Language,
  PackmlTable,
  Role,
  Series,
  Session,
  Verdict,
} from "./types";

export interface Toast {
  id: number;
  kind: "info" | "warning" | "error";
  text: string;
  remedy: string;
}
export type Body = { type: string } & Record<string, unknown>;
export type Theme = "light" | "dark" | "contrast";

const TICK_MS = 100;
const TOAST_MS = 9000;
/** The cell answers a load only after its analysis, which plans the whole recipe. */
const LOAD_TIMEOUT_MS = 120_000;

/** All the page knows of session and cell. One instance, made by `main`. */
export class Pendant {
  readonly api = new Api();
  readonly history = new History();
  session = $state.raw<Session | null>(null);
  packml = $state.raw<PackmlTable | null>(null);
  cell = $state.raw<CellModel | null>(null);
  tele = $state.raw<Merged | null>(null);
  control = $state.raw<Control | null>(null);
  linked = $state(false);
  reached = $state(true);
  toasts = $state<Toast[]>([]);
  busy = $state<string[]>([]);
  theme = $state<Theme>("light");
  /** Settings on the page that are not the ones loaded: Start waits until they are analysed and loaded. */
  unloaded = $state(false);
  /** performance.now() of this tick, so that what grows old does so without messages. */
  now = $state(performance.now());
  private arrival = $state<number | null>(null);
  private toastId = 0;
  private lastActive = performance.now();
  private readonly link = new TelemetryLink(
    (frame, first) => this.take(frame, first),
    (open) => (this.linked = open),
  );

  status = $derived(this.tele?.status ?? null);
  robot = $derived(this.tele?.robot ?? null);
  safety = $derived(this.tele?.safety ?? null);
  role = $derived<Role | null>(this.session?.user?.role ?? null);
  mine = $derived(this.control?.mine === true);
  locked = $derived(this.session?.locked === true);
  freshness = $derived<Freshness>(
    freshness(this.tele?.age ?? null, this.arrival === null ? Infinity : (this.now - this.arrival) / 1000),
  );
  stale = $derived(this.freshness.stale);
  operator = $derived(mayOperate(this.role));
  programmer = $derived(this.role === "programmer");
  /** May this page change anything at the cell now? Else the reason. */
  commanding = $derived.by<Why>(() => {
    if (!this.operator) return { kind: "role" };
    if (this.stale) return { kind: "stale" };
    if (this.locked) return { kind: "locked" };
    if (!this.mine) return { kind: "control", holder: this.control?.holder ?? null };
    return { kind: "ok" };
  });

  constructor() {
    this.api.onDenied = (error) => {
      if (!this.session) return;
      if (error.body.code === "locked") this.session = { ...this.session, locked: true };
      else if (error.status === 401 && this.session.user) this.ended();
    };
    setInterval(() => this.tick(), TICK_MS);
  }

  admission(command: CommandName): Why {
    if (this.busy.includes(command)) return { kind: "busy" };
    const why = admission(command, {
      table: this.packml,
      status: this.status,
      stale: this.stale,
      locked: this.locked,
      role: this.role,
      mine: this.mine,
      holder: this.control?.holder ?? null,
      byHand: this.status?.mode === "manual" && (this.robot?.standing === false || Boolean(this.robot?.motion_id)),
    });
    return why.kind === "ok" && command === "Start" && this.unloaded ? { kind: "unloaded" } : why;
  }

  // ------------------------------------------------------------------ session

  async begin(): Promise<void> {
    this.theme = storedTheme();
    document.documentElement.dataset["theme"] = this.theme;
    for (const name of ["pointerdown", "keydown"]) window.addEventListener(name, () => (this.lastActive = performance.now()));
    try {
      await this.accept(await this.api.get<Session>("/session"));
      this.reached = true;
    } catch {
      this.reached = false;
      setTimeout(() => void this.begin(), 2000);
    }
  }

  async login(name: string, password: string): Promise<void> {
    await this.accept(await this.api.post<Session>("/session", { name, password }));
  }

  async logout(): Promise<void> {
    await this.api.delete("/session").catch((error: unknown) => this.fail(error));
    this.ended();
    await this.begin();
  }

  async unlock(password: string): Promise<void> {
    const session = await this.api.post<Session | undefined>("/session/unlock", { password });
    this.lastActive = performance.now();
    await this.accept(session?.cell ? session : await this.api.get<Session>("/session"));
  }

  async language(language: Language): Promise<void> {
    setLanguage(language);
    if (this.session?.user) await this.api.patch("/session", { language }).catch((error: unknown) => this.fail(error));
  }

  setTheme(theme: Theme): void {
    this.theme = theme;
    document.documentElement.dataset["theme"] = theme;
    localStorage.setItem("pendant.theme", theme);
  }

  private async accept(session: Session): Promise<void> {
    const before = this.session?.user?.name;
    this.api.csrf = session.csrf;
    this.session = session;
    this.control = session.control;
    if (session.user?.language) setLanguage(session.user.language);
    if (!session.user || session.user.name === before) return;
    this.link.open();
    const [packml, cell, series] = await Promise.all([
      this.api.get<PackmlTable>("/packml"),
      this.api.get<CellModel>("/cell").catch(() => null),
      this.api.get<Series>("/series?seconds=60").catch(() => null),
    ]);
    this.packml = packml;
    this.cell = cell;
    if (series) this.history.seed(series);
  }

  private ended(): void {
    this.link.close();
    this.tele = null;
    this.arrival = null;
    this.control = null;
    this.api.csrf = null;
    this.history.clear();
    if (this.session) this.session = { ...this.session, user: null, csrf: null, locked: false };
  }

  // ------------------------------------------------------------------ telemetry

  private take(frame: Frame, first: boolean): void {
    const merged = merge(first ? null : this.tele, frame);
    if (merged === this.tele) return;
    this.tele = merged;
    this.arrival = performance.now();
    this.now = this.arrival;
    if (frame.control) this.control = frame.control;
    this.history.add(merged);
  }

  private tick(): void {
    this.now = performance.now();
    const limit = this.session?.idle_lock_s ?? 0;
    if (this.session?.user && !this.session.locked && limit > 0 && this.now - this.lastActive > limit * 1000) {
      this.session = { ...this.session, locked: true };
      void this.api.get<Session>("/session").then((s) => this.accept({ ...s, locked: true }), () => {});
    }
  }

  /** `t` of the newest message if it may still be acted on, else null. */
  seen(): number | null {
    if (this.arrival === null || !this.tele) return null;
    const waited = (performance.now() - this.arrival) / 1000;
    return freshness(this.tele.age, waited).stale ? null : this.tele.t;
  }

  // ------------------------------------------------------------------ commands

  /** Sends one command and shows a refusal. True if the cell took it. */
  async command(body: Body): Promise<boolean> {
    const answer = await this.send(body);
    return answer?.verdict === "done" || answer?.verdict === "accepted";
  }

  async load(recipe: string, settings: Record<string, unknown>, batches: number): Promise<Analysis | null> {
    const answer = await this.send({ type: "load", recipe, settings, batches }, LOAD_TIMEOUT_MS);
    return answer?.analysis ?? null;
  }

  private async send(body: Body, timeout?: number): Promise<Verdict | null> {
    const key = typeof body["name"] === "string" && body.type === "packml" ? body["name"] : body.type;
    this.busy.push(key);
    try {
      const id = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
      const seen = this.tele?.t ?? 0;
      const answer = await this.api.post<Verdict>("/commands", { id, seen, ...body }, timeout);
      if (answer.verdict === "rejected" || answer.verdict === "failed") {
        this.toast("warning", answer.reason || t("error.refused"), answer.remedy);
        return null;
      }
      return answer;
    } catch (error) {
      this.fail(error);
      // A recipe that was analysed and refused comes with its analysis.
      const found = error instanceof ApiError ? error.body.analysis : undefined;
      return found ? { verdict: "failed", reason: "", remedy: "", analysis: found } : null;
    } finally {
      const at = this.busy.indexOf(key);
      if (at >= 0) this.busy.splice(at, 1);
    }
  }

  async controlAction(action: "take" | "give" | "release" | "refuse"): Promise<void> {
    try {
      const answer = await this.api.post<Control | { control: Control }>(`/control/${action}`);
      this.control = "control" in answer ? answer.control : answer;
    } catch (error) {
      this.fail(error);
    }
  }

  // ------------------------------------------------------------------ messages to the person

  toast(kind: Toast["kind"], text: string, remedy = ""): void {
    if (this.toasts.some((other) => other.text === text)) return;
    const id = ++this.toastId;
    this.toasts = [...this.toasts.slice(-2), { id, kind, text, remedy }];
    setTimeout(() => this.dismiss(id), TOAST_MS);
  }

  dismiss(id: number): void {
    this.toasts = this.toasts.filter((toast) => toast.id !== id);
  }

  fail(error: unknown): void {
    this.toast("error", errorText(error), error instanceof ApiError ? error.body.remedy : "");
  }
}

/** What went wrong, for a person: the server's own sentence, with field and allowed range. */
export function errorText(error: unknown): string {
  if (!(error instanceof ApiError)) return error instanceof Error ? error.message : String(error);
  const { code, message, field, allowed } = error.body;
  if (code === "unreachable" || code === "timeout") return t("error.unreachable");
  return [field && `${field}:`, message, allowed && `(${allowed})`].filter(Boolean).join(" ");
}

function storedTheme(): Theme {
  const stored = localStorage.getItem("pendant.theme");
  if (stored === "light" || stored === "dark" || stored === "contrast") return stored;
  if (window.matchMedia("(prefers-contrast: more)").matches) return "contrast";
  return window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

export const pendant = new Pendant();
