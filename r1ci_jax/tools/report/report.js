// The data are hostile: they enter the page through textContent only.
const rows = JSON.parse(document.getElementById("trajectories").textContent);
const find = (id) => document.getElementById(id);
const filters = { stage: find("by-stage"), task: find("by-task"), verdict: find("by-verdict"), text: find("by-text") };
let visible = [];
let chosen = -1;

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

const verdict = (row) => (row.correct === true ? "correct" : row.correct === false ? "wrong" : "not scored");

function fill(select, values) {
  for (const value of ["all", ...new Set(values)]) {
    const option = make("option", "", value);
    option.value = value;
    select.append(option);
  }
}

function searchable(row) {
  const segments = (row.segments || []).map((segment) => segment.text);
  return [row.question, row.example_id, ...segments].join("\n").toLowerCase();
}

function showList() {
  const wanted = filters.text.value.toLowerCase();
  const passes = (select, value) => select.value === "all" || select.value === String(value);
  visible = rows
    .map((row, index) => index)
    .filter((index) => passes(filters.stage, rows[index].stage))
    .filter((index) => passes(filters.task, rows[index].task))
    .filter((index) => passes(filters.verdict, verdict(rows[index])))
    .filter((index) => !wanted || searchable(rows[index]).includes(wanted));
  find("matches").textContent = visible.length + " shown";
  find("list").replaceChildren(...visible.map(listItem));
}

function listItem(index) {
  const row = rows[index];
  const item = make("div", "item");
  item.setAttribute("role", "option");
  item.dataset.index = index;
  item.setAttribute("aria-selected", String(index === chosen));
  const mark = row.correct === true ? "✓ " : row.correct === false ? "✗ " : "";
  const reward = typeof row.reward === "number" ? row.reward.toFixed(2) : "–";
  item.append(make("span", "", row.task));
  item.append(make("b", row.correct ? "good" : "bad", mark + reward));
  item.append(make("small", "", row.stage + " step " + row.step));
  item.append(make("small", "", row.stop));
  item.addEventListener("click", () => choose(index));
  return item;
}

function rewardTerms(terms) {
  if (!terms) return "";
  const shown = Object.entries(terms).map(([name, value]) => name.replace("_", " ") + " " + value.toFixed(2));
  return " (" + shown.join(", ") + ")";
}

function choose(index) {
  chosen = index;
  for (const item of find("list").children) {
    const selected = Number(item.dataset.index) === index;
    item.setAttribute("aria-selected", String(selected));
    if (selected) reveal(item);
  }
  const row = rows[index];
  const reward = typeof row.reward === "number" ? row.reward.toFixed(2) : "–";
  const parts = [
    make("h3", "", row.task + " · " + row.example_id),
    make("p", "meta", [row.stage + " step " + row.step, row.agent, "stop: " + row.stop, "reward " + reward + rewardTerms(row.reward_terms)].join(" · ")),
    make("div", "prose question", row.question),
  ];
  let codeCall = 0;
  for (const segment of row.segments || []) {
    if (segment.sampled) {
      parts.push(...sampledParts(segment.text));
    } else {
      const isOutput = segment.text.includes("Code Execution Results:");
      parts.push(contextBox(segment.text, isOutput, isOutput ? (row.code_calls || [])[codeCall] : undefined));
      if (isOutput) codeCall += 1;
    }
  }
  const word = verdict(row);
  parts.push(make("p", word === "correct" ? "good" : "bad", "verdict: " + word));
  find("dialogue").replaceChildren(...parts);
  find("dialogue").scrollTop = 0;
}

// scrollIntoView would also scroll the page.
function reveal(item) {
  const list = find("list");
  const top = item.offsetTop - list.offsetTop;
  if (top < list.scrollTop) list.scrollTop = top;
  const bottom = top + item.offsetHeight - list.clientHeight;
  if (bottom > list.scrollTop) list.scrollTop = bottom;
}

// Same grammar as the protocol: a block closes at a fence that begins a line.
function sampledParts(text) {
  const parts = [];
  const open = /```python[ \t]*\n/g;
  let from = 0;
  for (let match = open.exec(text); match; match = open.exec(text)) {
    if (match.index > from) parts.push(prose(text.slice(from, match.index)));
    const body = match.index + match[0].length;
    const close = text.startsWith("```", body) ? body : text.indexOf("\n```", body) + 1;
    const end = close > 0 ? close : text.length;
    const code = make("pre", "code");
    highlight(code, text.slice(body, end));
    parts.push(code);
    from = Math.min(text.length, end + 3);
    open.lastIndex = from;
  }
  if (from < text.length) parts.push(prose(text.slice(from)));
  return parts;
}

function prose(text) {
  const node = make("div", "prose");
  let from = 0;
  // No regular expression: many marks that never close would each search the whole text.
  for (;;) {
    const open = text.indexOf("<<<", from);
    const close = open < 0 ? -1 : text.indexOf(">>>", open + 3);
    if (close < 0) break;
    node.append(text.slice(from, open), make("span", "answer", text.slice(open, close + 3)));
    from = close + 3;
  }
  node.append(text.slice(from));
  return node;
}

function contextBox(text, isOutput, codeCall) {
  const box = make("div", "given");
  const label = make("div", "label");
  label.append(make("span", "", (isOutput ? "interpreter output" : "user message") + " · not trained on"));
  if (codeCall) {
    const seconds = typeof codeCall.wall_seconds === "number" ? " · " + codeCall.wall_seconds.toFixed(2) + " s" : "";
    label.append(make("span", codeCall.status === "ok" ? "good" : "bad", codeCall.status + seconds));
  }
  box.append(label, make("pre", "", text.trim()));
  return box;
}

const KEYWORDS = new Set(("and as assert async await break class continue def del elif else except False finally for " +
  "from global if import in is lambda None nonlocal not or pass raise return True try while with yield").split(" "));

function highlight(node, code) {
  const token = /(#[^\n]*)|("""[\s\S]*?"""|'''[\s\S]*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|([A-Za-z_]\w*)|(\d[\w.]*)/g;
  let from = 0;
  for (const match of code.matchAll(token)) {
    const kind = match[1] ? "comment" : match[2] ? "string" : match[4] ? "number" : KEYWORDS.has(match[3]) ? "keyword" : "";
    if (!kind) continue;
    node.append(code.slice(from, match.index), make("span", kind, match[0]));
    from = match.index + match[0].length;
  }
  node.append(code.slice(from));
}

find("list").addEventListener("keydown", (event) => {
  const move = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1 }[event.key];
  if (!move || !visible.length) return;
  event.preventDefault();
  const at = visible.indexOf(chosen) + move;
  choose(visible[Math.max(0, Math.min(visible.length - 1, at))]);
});

fill(filters.stage, rows.map((row) => row.stage));
fill(filters.task, rows.map((row) => row.task));
fill(filters.verdict, rows.map(verdict));
for (const filter of Object.values(filters)) filter.addEventListener("input", showList);
showList();
if (visible.length) choose(visible[visible.length - 1]);
