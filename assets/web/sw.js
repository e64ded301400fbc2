// Keeps the page for use without a network.
const [VERSION, FILES] = ["__VERSION__", __FILES__];
const NAME = `wmic ${self.registration.scope}`;

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(`${NAME} ${VERSION}`).then((cache) => cache.addAll(FILES)));
});
self.addEventListener("activate", (event) => {
  const old = (name) => name.startsWith(`${NAME} `) && name !== `${NAME} ${VERSION}`;
  const clean = async () => {
    await Promise.all((await caches.keys()).filter(old).map((name) => caches.delete(name)));
    await self.clients.claim();
  };
  event.waitUntil(clean());
});
self.addEventListener("fetch", (event) => {
  const kept = async () =>
    (await (await caches.open(`${NAME} ${VERSION}`)).match(event.request)) ?? fetch(event.request);
  event.respondWith(kept());
});
