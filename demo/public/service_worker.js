// Keeps the page and the models beside it, so that they work without a network; nothing from other origins. A new build brings a new
// list of files, and what is no longer in it goes.
const CACHE = "heed-page";

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(keepAll());
});
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const { request } = event;
  // Parts of files are asked for by models that a person names; the page's own files are fetched whole.
  if (request.method !== "GET" || !request.url.startsWith(self.registration.scope) || request.headers.has("range"))
    return;
  event.respondWith(answer(request));
});

async function keepAll() {
  const cache = await caches.open(CACHE);
  const list = await (await fetch("offline.json", { cache: "no-cache" })).json();
  const urls = list.map((name) => new URL(name, self.registration.scope).href);
  for (const { url } of await cache.keys()) if (!urls.includes(url)) await cache.delete(url);
  await Promise.all(urls.map((url) => keep(cache, url)));
}

/** Files with a hash in their name never change; the others are fetched again. */
async function keep(cache, url) {
  if (isFixed(url) && (await cache.match(url))) return;
  const fresh = await fetch(url, { cache: "no-cache" });
  if (fresh.ok) await cache.put(url, fresh);
}

function isFixed(url) {
  return new URL(url).pathname.includes("/assets/");
}

async function answer(request) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(request, { ignoreSearch: true });
  if (kept && isFixed(request.url)) return kept;
  try {
    return await fetch(request);
  } catch (error) {
    if (kept) return kept;
    throw error;
  }
}
