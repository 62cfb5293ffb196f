import type { ApiErrorBody } from "./types";

/** A refusal of the server, as its error body says it. `status` 0: the server was not reached. */
export class ApiError extends Error {
  readonly status: number;
  readonly body: ApiErrorBody;

  constructor(status: number, body: ApiErrorBody) {
    super(body.message);
    this.name = "ApiError";
    this.status = status;
    this.body = body;
  }
}

const EMPTY: ApiErrorBody = { code: "", message: "", field: "", allowed: "", remedy: "" };
const TIMEOUT_MS = 15_000;
export const BASE = "/api/v1";

/** Address of a socket of the server this page came from. */
export function socketUrl(path: string, location: Pick<Location, "protocol" | "host">): string {
  return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${BASE}${path}`;
}

/** An address the server gave: absolute from the host, or relative to the base. */
export function resourceUrl(url: string): string {
  return url.startsWith("/") || url.startsWith("http") ? url : `${BASE}/${url}`;
}

function errorOf(status: number, text: string): ApiError {
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed === "object" && parsed !== null && "error" in parsed) {
      return new ApiError(status, { ...EMPTY, ...(parsed as { error: Partial<ApiErrorBody> }).error });
    }
  } catch {
    // not JSON: the text itself is the message
  }
  return new ApiError(status, { ...EMPTY, code: `http_${status}`, message: text.slice(0, 200) || `HTTP ${status}` });
}

/** JSON requests with the session's CSRF token. Nothing is repeated: a command that got lost stays lost. */
export class Api {
  csrf: string | null = null;
  onDenied: (error: ApiError) => void = () => {};

  async request<T>(method: string, path: string, body?: unknown, timeout = TIMEOUT_MS): Promise<T> {
    const headers: Record<string, string> = { Accept: "application/json" };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (method !== "GET" && this.csrf) headers["X-CSRF-Token"] = this.csrf;
    const init: RequestInit = { method, headers, credentials: "same-origin", signal: AbortSignal.timeout(timeout) };
    if (body !== undefined) init.body = JSON.stringify(body);
    let response: Response;
    let text: string;
    try {
      response = await fetch(BASE + path, init);
      text = await response.text();
    } catch (cause) {
      const late = cause instanceof DOMException && cause.name === "TimeoutError";
      throw new ApiError(0, { ...EMPTY, code: late ? "timeout" : "unreachable", message: String(cause) });
    }
    if (!response.ok) {
      const error = errorOf(response.status, text);
      if (response.status === 401 || error.body.code === "locked") this.onDenied(error);
      throw error;
    }
    return (text ? JSON.parse(text) : undefined) as T;
  }

  get<T>(path: string): Promise<T> {
    return this.request<T>("GET", path);
  }

  post<T>(path: string, body: unknown = {}, timeout = TIMEOUT_MS): Promise<T> {
    return this.request<T>("POST", path, body, timeout);
  }

  put<T>(path: string, body: unknown): Promise<T> {
    return this.request<T>("PUT", path, body);
  }

  patch<T>(path: string, body: unknown): Promise<T> {
    return this.request<T>("PATCH", path, body);
  }

  delete<T>(path: string): Promise<T> {
    return this.request<T>("DELETE", path);
  }
}
