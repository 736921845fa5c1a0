/** A time word in both languages. */
export interface Time {
  readonly zh: string;
  readonly en: string;
}

function times(words: string): readonly Time[] {
  return words.split(";").map((entry) => {
    const [zh = "", ...en] = entry.trim().split(" ");
    return { zh, en: en.join(" ") };
  });
}

export const PAST_TIMES = times(
  `昨天 yesterday;前天 the day before yesterday;上个星期 last week;上个月 last month;去年 last year;昨天晚上 last night;昨天早上 yesterday morning;
昨天下午 yesterday afternoon;上个周末 last weekend;三天前 three days ago;两个星期前 two weeks ago;上个星期五 last Friday;上个星期天 last Sunday`,
);

export const FUTURE_TIMES = times(
  `明天 tomorrow;后天 the day after tomorrow;下个星期 next week;下个月 next month;明年 next year;今天晚上 this evening;明天早上 tomorrow morning;
明天下午 tomorrow afternoon;明天晚上 tomorrow evening;下个周末 next weekend;下个星期一 next Monday;下个星期六 next Saturday`,
);

export const HABIT_TIMES = times(
  `每天 every day;每个星期 every week;每天早上 every morning;每天晚上 every evening;每天下午 every afternoon;每个周末 every weekend;每个月 every month`,
);

/** Adverbs of how often, which stand before the verb in both languages. */
export const FREQUENCIES = times(
  "常常 often;经常 often;总是 always;有时候 sometimes;很少 rarely;一般 usually;从不 never",
);

export const WEEKDAYS = times("一 Monday;二 Tuesday;三 Wednesday;四 Thursday;五 Friday;六 Saturday;天 Sunday");

export const MONTHS: readonly string[] =
  "January February March April May June July August September October November December".split(" ");

/** Parts of the day for clock times: 早上七点, seven o'clock in the morning. */
export const DAY_PARTS = times("早上 in the morning;下午 in the afternoon;晚上 in the evening");
