/** What a page's downloads take on its device. */
export interface DownloadUsage {
  /** Of whole files and of what stopped downloads left. */
  readonly bytes: number;
  /** Whole files. */
  readonly files: number;
}

/**
 * What models that were fetched by their Hub id or URL take in the page's private file system; zeros where it has none. (In Node they
 * are files in Heed's cache folder.)
 *
 * @example
 * const { bytes } = await downloadUsage();
 */
export async function downloadUsage(): Promise<DownloadUsage> {
  return (await import("./cache_opfs.ts")).opfsUsage();
}

/** Removes every download from the page's private file system, stopped ones included. A model that is loaded stays as it is. */
export async function clearDownloads(): Promise<void> {
  await (await import("./cache_opfs.ts")).clearOpfs();
}
