// Every listener of the dashboard. Behaviour hangs on data attributes; no page has a script of its own.
const $ = (query, root = document) => root.querySelector(query);
const $$ = (query, root = document) => [...root.querySelectorAll(query)];
const home = document.body.dataset.home;

// ---------------------------------------------------------------- clicks
const clicks = {
  theme() {
    const dark = !document.documentElement.classList.contains("dark");
    localStorage.setItem("theme", dark ? "dark" : "light");
    document.documentElement.classList.toggle("dark", dark);
  },
  menu: () => $(".side").toggleAttribute("data-open"),
  palette: () => openPalette(),
  help: () => $("#help").showModal(),
  open: (button) => $(button.dataset.target).showModal(),
  close: (button) => button.closest("dialog").close(),
  more(button) {
    const row = document.getElementById(button.getAttribute("aria-controls"));
    row.hidden = !row.hidden;
    button.setAttribute("aria-expanded", String(!row.hidden));
  },
  dismiss: (button) => button.closest("output").remove(),
  async copy(button) {
    const text = button.dataset.text ?? $("pre", button.closest(".code")).textContent;
    await navigator.clipboard.writeText(text);
    toast(button.dataset.said ?? "Copied");
  },
  tab(button) {
    for (const tab of $$("[role=tab]", button.closest(".tabs-box"))) {
      const chosen = tab === button;
      tab.setAttribute("aria-selected", String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
      document.getElementById(tab.getAttribute("aria-controls")).hidden = !chosen;
    }
    button.focus();
  },
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (button) {
    event.preventDefault();
    clicks[button.dataset.do](button, event);
  } else if (event.target.tagName === "DIALOG") {
    event.target.close(); // its backdrop
  } else if ($(".side[data-open]") && !event.target.closest(".side")) {
    $(".side").removeAttribute("data-open");
  }
});

// A dialog that the server wants to be seen: it was fetched, or something in it needs another look.
function show() {
  for (const dialog of $$("dialog[data-show]")) {
    dialog.removeAttribute("data-show");
    dialog.showModal();
  }
}
show();
document.addEventListener("htmx:after:swap", show);

// A form is sent once; one that asks first says so.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.ask && !confirm(form.dataset.ask)) return event.preventDefault();
  if (form.method === "post" && !form.hasAttribute("hx-post")) {
    setTimeout(() => $$("button:not([type=button])", form).forEach((b) => (b.disabled = true)));
  }
});
addEventListener("pageshow", (event) => {
  if (event.persisted) $$("form button:disabled").forEach((b) => (b.disabled = false));
});

// A filter takes effect when it is chosen.
document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-filters]");
  if (form) form.requestSubmit();
});
// Empty filters do not show in the address.
document.addEventListener("formdata", (event) => {
  if (!event.target.hasAttribute("data-filters")) return;
  for (const [name, value] of [...event.formData]) if (!value) event.formData.delete(name);
});

// ---------------------------------------------------------------- keys
const typing = (target) => target.closest("input, textarea, select, [contenteditable]");
let leader = 0;

document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
    event.preventDefault();
    return openPalette();
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const tab = event.target.closest("[role=tab]");
  if (tab && (event.key === "ArrowRight" || event.key === "ArrowLeft")) {
    const tabs = $$("[role=tab]", tab.closest("[role=tablist]"));
    const step = event.key === "ArrowRight" ? 1 : tabs.length - 1;
    return clicks.tab(tabs[(tabs.indexOf(tab) + step) % tabs.length]);
  }
  if (typing(event.target) || $("dialog[open]")) return;
  if (event.key === "Escape") $(".side")?.removeAttribute("data-open");
  if (Date.now() - leader < 1500) {
    leader = 0;
    const link = $(`.side a[data-key="${CSS.escape(event.key)}"]`);
    if (link) link.click();
  } else if (event.key === "g") leader = Date.now();
  else if (event.key === "/") {
    event.preventDefault();
    ($("[data-search]") ?? { focus: openPalette }).focus();
  } else if (event.key === "?") $("#help")?.showModal();
  else if (event.key === "j" || event.key === "k") step(event.key === "j" ? 1 : -1);
  else if (event.key === "Enter" && event.target === document.body) $("tr[data-here] :is(a, [data-do=more])")?.click();
});

function step(by) {
  const rows = $$("tr[data-row]");
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.hasAttribute("data-here"));
  const next = rows[Math.max(0, Math.min(rows.length - 1, at < 0 && by < 0 ? 0 : at + by))];
  rows.forEach((row) => row.toggleAttribute("data-here", row === next));
  next.scrollIntoView({ block: "nearest" });
}

// ---------------------------------------------------------------- palette
function openPalette() {
  const dialog = $("#palette");
  if (!dialog || dialog.open) return;
  dialog.showModal();
  const input = $("input", dialog);
  input.value = "";
  input.dispatchEvent(new Event("input", { bubbles: true }));
  choose(0);
}

const options = () => $$("#found [role=option]");
function choose(at) {
  const all = options();
  all.forEach((option, i) => option.setAttribute("aria-selected", String(i === at)));
  $("#palette input").setAttribute("aria-activedescendant", all[at]?.id ?? "");
  all[at]?.scrollIntoView({ block: "nearest" });
}
$("#palette")?.addEventListener("keydown", (event) => {
  const all = options();
  const at = all.findIndex((option) => option.getAttribute("aria-selected") === "true");
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    choose((at + (event.key === "ArrowDown" ? 1 : all.length - 1)) % all.length);
  } else if (event.key === "Enter") {
    event.preventDefault();
    all[Math.max(at, 0)]?.click();
  }
});
document.addEventListener("htmx:after:swap", () => {
  if ($("#palette")?.open) choose(0);
});

// ---------------------------------------------------------------- toasts
const SHOWN_MS = 5000;

function toast(text, bad = false) {
  const made = $("#toast").content.cloneNode(true).firstElementChild;
  $("span", made).textContent = text;
  made.toggleAttribute("data-bad", bad);
  $("#toasts").append(made);
}
// One with a way back stays longer; one that is being read stays.
new MutationObserver((changes) => {
  for (const node of changes.flatMap((change) => [...change.addedNodes])) expire(node);
}).observe($("#toasts"), { childList: true });
$$("#toasts > output").forEach(expire);

function expire(node) {
  if (node.nodeType !== 1) return;
  setTimeout(() => (node.matches(":hover, :focus-within") ? expire(node) : node.remove()),
    $("form", node) ? SHOWN_MS * 4 : SHOWN_MS);
}
document.addEventListener("htmx:error", () => toast("The server does not answer", true));

// ---------------------------------------------------------------- live pages
document.addEventListener("htmx:sse:error", (event) => {
  if (event.detail?.status === 401) location.reload(); // signed out meanwhile: to the sign-in and back
  document.body.setAttribute("data-offline", "");
});
document.addEventListener("htmx:sse:after:connection", () => document.body.removeAttribute("data-offline"));

// A row that was opened stays open when the list around it changes.
htmx.registerExtension("opened", {
  htmx_before_morph_attr: (node, { attrName }) =>
    !(attrName === "aria-expanded" || (attrName === "hidden" && node.matches("tr.more"))),
});

// Follows the text while its end is in view, and lets go when one scrolls up.
const tokens = $("#tokens[data-live]");
if (tokens) {
  let near = true;
  tokens.addEventListener("scroll", () => {
    near = tokens.scrollHeight - tokens.clientHeight - tokens.scrollTop < 40;
  }, { passive: true });
  new MutationObserver(() => {
    if (near) tokens.scrollTop = tokens.scrollHeight;
  }).observe(tokens, { childList: true, characterData: true, subtree: true });
}

// ---------------------------------------------------------------- relative times, as render.relative
function relative(seconds) {
  const size = Math.abs(seconds);
  if (size < 1) return "now";
  const [unit, name] = size < 60 ? [1, "s"] : size < 3600 ? [60, "min"] : size < 86400 ? [3600, "h"] : [86400, "d"];
  const text = `${Math.floor(size / unit)} ${name}`;
  return seconds > 0 ? `${text} ago` : `in ${text}`;
}
setInterval(() => {
  if (document.hidden) return;
  for (const time of $$("time[datetime]")) {
    const text = relative((Date.now() - Date.parse(time.dateTime)) / 1000);
    if (time.textContent !== text) time.textContent = text;
  }
}, 5000);

// ---------------------------------------------------------------- signing in by a link
// Its secret stands behind `#`, so that no server's log and no other site ever sees it.
const entry = $("#link-form");
if (entry && location.hash.startsWith("#lnk_")) {
  $("input[name=link]", entry).value = location.hash.slice(1);
  history.replaceState(null, "", location.pathname + location.search);
  entry.submit();
}
