const DIGITS = "零一二三四五六七八九";

/** A number from 0 to 999 in Chinese: 一百二十五. */
export function chineseNumber(n: number): string {
  if (n >= 100) {
    const rest = n % 100;
    const joint = rest === 0 ? "" : rest < 10 ? `零${DIGITS[rest]}` : chineseTens(rest, true);
    return `${DIGITS[Math.floor(n / 100)]}百${joint}`;
  }
  return n < 10 ? (DIGITS[n] ?? "") : chineseTens(n, false);
}

function chineseTens(n: number, afterHundreds: boolean): string {
  const tens = Math.floor(n / 10);
  const head = tens === 1 && !afterHundreds ? "" : DIGITS[tens];
  return `${head}十${n % 10 > 0 ? DIGITS[n % 10] : ""}`;
}

/** A number before a measure word, where two is 两: 两本书, 十二本书. */
export function chineseCount(n: number): string {
  return n === 2 ? "两" : chineseNumber(n);
}
