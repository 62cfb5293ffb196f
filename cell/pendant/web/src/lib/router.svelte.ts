export const PAGES = ["run", "watch", "teach", "alarms", "safety", "people"] as const;
export type Page = (typeof PAGES)[number];

function current(): Page {
  const name = window.location.hash.replace(/^#\/?/, "").split("/")[0];
  return PAGES.find((page) => page === name) ?? "run";
}

class Router {
  page = $state<Page>(current());

  constructor() {
    window.addEventListener("hashchange", () => (this.page = current()));
  }
}

export const router = new Router();
