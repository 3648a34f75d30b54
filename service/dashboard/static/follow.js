// Lines of JSON that a server pushes, for as long as one wants them: whatever happens to the server, they go on when it
// is back.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 4000;
const SILENCE_MS = 6000; // The server says something every second.

const TOKEN = "token";

/** Shows this token from now on; it is forgotten with the tab. */
export function showToken(token) {
  sessionStorage.setItem(TOKEN, token);
  dispatchEvent(new Event(TOKEN));
}

/**
 * Calls `onLine` with each object that comes from `path`, and `onState(text, status)` when there is something wrong (""
 * when all is well), with the HTTP status if that says what, until `signal` aborts.
 */
export async function follow(path, { signal, onLine, onState }) {
  let waitMs = FIRST_WAIT_MS;
  while (!signal.aborted) {
    let [why, status] = ["the server has gone", 0];
    try {
      for await (const line of lines(path, signal)) {
        waitMs = FIRST_WAIT_MS;
        onState("");
        onLine(line);
      }
    } catch (error) {
      if (error instanceof Refusal) [why, status] = [error.message, error.status];
    }
    if (signal.aborted) return;
    onState(status === 401 ? why : `${why}; trying again …`, status);
    await pause(waitMs, signal);
    waitMs = Math.min(2 * waitMs, LONGEST_WAIT_MS);
  }
}

class Refusal extends Error {
  constructor(text, status) {
    super(text);
    this.status = status;
  }
}

/** What is at `path`; throws where the server refuses it. */
export async function get(path, signal) {
  const token = sessionStorage.getItem(TOKEN);
  const response = await fetch(path, { signal, headers: token ? { Authorization: `Bearer ${token}` } : {} });
  if (!response.ok) throw new Refusal(await complaint(response), response.status);
  return response;
}

async function* lines(path, signal) {
  const silence = new AbortController();
  let timer;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), SILENCE_MS);
  };
  try {
    heard();
    const response = await get(path, AbortSignal.any([signal, silence.signal]));
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = "", part = await reader.read(); !part.done; part = await reader.read()) {
      heard();
      const whole = (text + part.value).split("\n");
      text = whole.pop();
      for (const line of whole) yield JSON.parse(line);
    }
  } finally {
    clearTimeout(timer);
    silence.abort();
  }
}

async function complaint(response) {
  try {
    return (await response.json()).error;
  } catch {
    return `the server answers ${response.status}`;
  }
}

/** Waits so long, or until there is another token or no use in waiting. */
function pause(ms, signal) {
  return new Promise((resolve) => {
    const over = new AbortController();
    const end = () => { clearTimeout(timer); over.abort(); resolve(); };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end, { signal: over.signal });
    addEventListener(TOKEN, end, { signal: over.signal });
  });
}
