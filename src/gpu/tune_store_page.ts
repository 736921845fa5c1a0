import type { TuneStore } from "./tune.ts";

const NAME = "heed";
const STORE = "tune";

/** The page's IndexedDB; undefined where there is none. */
export function pageTuneStore(factory: IDBFactory | undefined = globalThis.indexedDB): TuneStore | undefined {
  if (!factory) return undefined;
  return {
    description: "the browser's database for this site",
    read: (key) =>
      withStore(factory, "readonly", async (store) => {
        const found: unknown = await settled(store.get(key));
        return typeof found === "string" ? found : undefined;
      }),
    write: (key, text) =>
      withStore(factory, "readwrite", async (store) => {
        await settled(store.put(text, key));
      }),
  };
}

async function withStore<T>(
  factory: IDBFactory,
  mode: IDBTransactionMode,
  work: (store: IDBObjectStore) => Promise<T>,
): Promise<T> {
  const opening = factory.open(NAME, 1);
  opening.onupgradeneeded = () => {
    opening.result.createObjectStore(STORE);
  };
  const database = await settled(opening);
  try {
    return await work(database.transaction(STORE, mode).objectStore(STORE));
  } finally {
    database.close();
  }
}

function settled<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error("IndexedDB failed"));
  });
}
