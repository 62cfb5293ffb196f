import { mount } from "svelte";
import App from "./App.svelte";
import "./app.css";
import { setLanguage, storedLanguage } from "./lib/i18n/index.svelte";
import { pendant } from "./lib/state.svelte";

setLanguage(storedLanguage());
void pendant.begin();

const target = document.getElementById("app");
if (!target) throw new Error("the page has no #app");
mount(App, { target });
