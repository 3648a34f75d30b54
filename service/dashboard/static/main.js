// The page: the overview always, and the session that the address names.

import { follow, showToken } from "./follow.js";
import { write } from "./format.js";
import { mark, overview } from "./overview.js";
import { show } from "./session.js";

const status = document.getElementById("status");
const find = document.getElementById("find");
const login = document.getElementById("login");

function go() {
  show(new URLSearchParams(location.hash.slice(1)).get("session"));
  mark();
}

find.addEventListener("submit", (event) => {
  event.preventDefault();
  location.hash = new URLSearchParams({ session: document.getElementById("find-id").value });
});
login.addEventListener("submit", (event) => {
  event.preventDefault();
  showToken(document.getElementById("token").value.trim());
});
addEventListener("hashchange", go);
go();

follow("api/overview", {
  signal: new AbortController().signal,
  onLine: overview,
  onState: (text, code) => {
    write(status, text || "connected");
    status.classList.toggle("away", text !== "");
    login.hidden = code !== 401;
  },
});
