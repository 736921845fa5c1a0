/** Lets the page work without a network once it has loaded. A browser that refuses loses that and nothing else. */
export async function keepForOffline(): Promise<void> {
  if (!("serviceWorker" in navigator) || import.meta.env.DEV) return;
  try {
    await navigator.serviceWorker.register(new URL("./service_worker.js", document.baseURI));
  } catch {
    // Private windows and some settings forbid it.
  }
}
