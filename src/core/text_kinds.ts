/** What a file is, after "it is", and what to do about it. */
export interface FileKind {
  readonly what: string;
  readonly mend: string;
}

const POINTER: FileKind = {
  what: "a Git LFS pointer, not the file that it stands for",
  mend: "Fetch the file itself: `git lfs pull`, or download it from the Hub.",
};
const PAGE: FileKind = {
  what: "a web page (HTML), such as an error or a sign-in page",
  mend: "Download the file itself; on the Hub its address has /resolve/, not /blob/.",
};

/** The texts that people get in place of a file of any kind: what stands at the file's beginning tells. */
export function mistakenText(beginning: string): FileKind | undefined {
  const text = beginning.slice(0, 64).trimStart().toLowerCase();
  if (text.startsWith("version https://git-lfs")) return POINTER;
  return ["<!doctype", "<html", "<?xml"].some((tag) => text.startsWith(tag)) ? PAGE : undefined;
}
