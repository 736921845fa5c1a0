/** The page's texts in Chinese, by their English. */
export const CHINESE: Readonly<Record<string, string>> = {};
