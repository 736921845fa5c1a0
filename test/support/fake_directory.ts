/**
 * A directory of the origin's private file system, in memory, as far as Heed uses it: writes become visible when their
 * stream is closed, as in browsers, and a quota makes them fail.
 */
export class FakeDirectory {
  readonly kind = "directory";
  readonly name: string;
  readonly files = new Map<string, Blob>();
  readonly folders = new Map<string, FakeDirectory>();
  /** Bytes that may still be written; shared by nobody. */
  quotaBytes = Number.POSITIVE_INFINITY;

  constructor(name = "") {
    this.name = name;
  }

  /** This directory under the type of the real ones. */
  get handle(): FileSystemDirectoryHandle {
    return this as unknown as FileSystemDirectoryHandle;
  }

  async getDirectoryHandle(name: string, options: { create?: boolean } = {}): Promise<FakeDirectory> {
    if (this.files.has(name)) throw new DOMException("a file", "TypeMismatchError");
    if (!this.folders.has(name) && options.create) this.folders.set(name, new FakeDirectory(name));
    const folder = this.folders.get(name);
    if (!folder) throw new DOMException(name, "NotFoundError");
    return folder;
  }

  async getFileHandle(name: string, options: { create?: boolean } = {}) {
    if (this.folders.has(name)) throw new DOMException("a folder", "TypeMismatchError");
    if (!this.files.has(name)) {
      if (!options.create) throw new DOMException(name, "NotFoundError");
      this.files.set(name, new Blob([]));
    }
    return {
      kind: "file",
      name,
      getFile: async () => new File([this.files.get(name) ?? new Blob([])], name),
      createWritable: async ({ keepExistingData = false } = {}) => this.#writable(name, keepExistingData),
    };
  }

  async removeEntry(name: string): Promise<void> {
    if (!this.files.delete(name)) throw new DOMException(name, "NotFoundError");
  }

  async *keys() {
    for (const [name] of [...this.folders, ...this.files]) yield name;
  }

  async *entries() {
    for (const [name, folder] of this.folders) yield [name, folder] as const;
    for (const name of this.files.keys()) yield [name, await this.getFileHandle(name)] as const;
  }

  /** Written behind what was there, if that is kept: nobody seeks to another place. */
  #writable(name: string, keep: boolean) {
    const parts: BlobPart[] = keep ? [this.files.get(name) ?? ""] : [];
    let failed = false;
    return {
      seek: async (at: number) => {
        if (at !== (this.files.get(name)?.size ?? 0)) throw new Error(`the end is at ${this.files.get(name)?.size}`);
      },
      write: async (data: string | Uint8Array<ArrayBuffer>) => {
        this.quotaBytes -= data.length;
        failed ||= this.quotaBytes < 0;
        if (failed) throw new DOMException("full", "QuotaExceededError");
        // A copy: the caller may use its buffer again.
        parts.push(typeof data === "string" ? data : data.slice());
      },
      // A stream that has failed gives nothing of what it took.
      close: async () => {
        if (failed) throw new TypeError("the stream has failed");
        this.files.set(name, new Blob(parts));
      },
      abort: async () => undefined,
    };
  }
}
