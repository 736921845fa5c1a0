import { cachedFile, type FileCache } from "./cache.ts";
import type { Explain, HttpClient, RemoteTarget } from "./http.ts";
import { checkRange, collect, type DownloadProgress, type ReadOptions, type SourceFile } from "../core/source.ts";

/** What makes up a {@link RemoteFile}. */
export interface RemoteFileOptions extends RemoteTarget {
  client: HttpClient;
  explain: Explain;
  sha256?: string;
  /** Where the file is kept, and its key there: one key, one content for ever. Both or neither. */
  cached?: { cache: FileCache; key: string };
  onProgress?: (progress: DownloadProgress) => void;
}

/**
 * A file on a server. Without a cache every read is a range request. With one, `stream` and a `read` of everything
 * download the file once, check it, and read the copy; a `read` of a part (a header) is a range request as long as there
 * is no copy, so that a checkpoint can be refused before its weights are fetched.
 */
export class RemoteFile implements SourceFile {
  readonly name: string;
  readonly sizeBytes: number;
  readonly #options: RemoteFileOptions;
  #local: SourceFile | undefined;
  #arrivedBytes = 0;

  constructor(options: RemoteFileOptions) {
    this.name = options.name;
    this.sizeBytes = options.sizeBytes;
    this.#options = options;
  }

  async *stream(start: number, end: number, options: ReadOptions = {}): AsyncIterable<Uint8Array> {
    checkRange(this, start, end);
    const local = await this.#fetched(options);
    if (local) yield* local.stream(start, end, options);
    else yield* this.#counted(this.#remote(start, end, options));
  }

  async read(start: number, end: number, options: ReadOptions = {}): Promise<Uint8Array> {
    checkRange(this, start, end);
    const whole = end - start === this.sizeBytes;
    const local = whole ? await this.#fetched(options) : await this.#present();
    const chunks = local ? local.stream(start, end, options) : this.#remote(start, end, options);
    return collect(chunks, end - start, this.name);
  }

  #remote(start: number, end: number, options: ReadOptions): AsyncIterable<Uint8Array> {
    return this.#options.client.stream(this.#options, start, end, { ...options, explain: this.#options.explain });
  }

  /** Without a cache, progress is what has arrived of this file so far, repetitions not told apart. */
  async *#counted(chunks: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
    for await (const chunk of chunks) {
      this.#arrivedBytes = Math.min(this.sizeBytes, this.#arrivedBytes + chunk.length);
      this.#report(this.#arrivedBytes);
      yield chunk;
    }
  }

  #report(loadedBytes: number): void {
    this.#options.onProgress?.({ file: this.name, loadedBytes, totalBytes: this.sizeBytes });
  }

  async #present(): Promise<SourceFile | undefined> {
    const { cached, name, sizeBytes } = this.#options;
    this.#local ??= await cached?.cache.openBlob(cached.key, name, sizeBytes);
    return this.#local;
  }

  async #fetched({ signal }: ReadOptions): Promise<SourceFile | undefined> {
    const { cached, name, sizeBytes, sha256 } = this.#options;
    if (this.#local || !cached) return this.#local;
    const job = {
      key: cached.key,
      name,
      sizeBytes,
      sha256,
      fetch: (start: number, stop: AbortSignal) => this.#remote(start, sizeBytes, { signal: stop }),
    };
    const onLoaded = (loadedBytes: number) => this.#report(loadedBytes);
    this.#local = await cachedFile(cached.cache, job, { signal, onLoaded });
    this.#report(sizeBytes);
    return this.#local;
  }
}
