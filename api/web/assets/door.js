// Keeps a door display up to date: it loads the page again every half a minute, or as soon as something changes, as long as the server answers.
// While the server does not answer the display says so, with the time of its last news.
const every = 30_000;
const display = document.querySelector(".door");
const offline = document.getElementById("offline");
const loaded = new Date();
let timer;

async function refresh() {
  clearTimeout(timer);
  try {
    const reply = await fetch(location.pathname, { method: "HEAD", cache: "no-store" });
    if (reply.ok) {
      location.replace(location.pathname);
      return;
    }
  } catch {
    // The server cannot be reached; the display says so below.
  }
  const at = loaded.toLocaleTimeString(document.documentElement.lang, { hour: "2-digit", minute: "2-digit" });
  offline.textContent = display.dataset.offline.replace("{when}", at);
  offline.hidden = false;
  timer = setTimeout(refresh, every);
}

timer = setTimeout(refresh, every);
document.addEventListener("roombook:change", (e) => {
  if (!e.detail || !e.detail.roomId || location.pathname.endsWith(`/rooms/${e.detail.roomId}/door`)) {
    refresh();
  }
});

// At night the display dims; a tap lights it up for a while.
const hour = new Date().getHours();
if (hour < 6 || hour >= 21) {
  display.classList.add("dim-display");
  addEventListener("pointerdown", () => display.classList.remove("dim-display"));
}
