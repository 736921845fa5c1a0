import { drawSubject, type Sentence } from "./action_parts.ts";
import { plainAction, thingAction, travelAction } from "./actions.ts";
import { chineseCount, chineseNumber } from "./chinese.ts";
import type { Draw } from "./draw.ts";
import { be, does, numberInWords, present, verb } from "./english.ts";
import { CITIES } from "./places.ts";
import { DAY_PARTS, FUTURE_TIMES, MONTHS, WEEKDAYS } from "./times.ts";

/** Clock, weekday, date, weather. */
export function calendarSentence(draw: Draw): Sentence {
  const roll = draw.uniform();
  if (roll < 0.3) return clock(draw);
  if (roll < 0.42) return weekday(draw);
  if (roll < 0.62) return date(draw);
  return weather(draw);
}

/** 七点, 七点半, 七点十分: a clock time in both languages. */
function drawClock(draw: Draw): { zh: string; en: string } {
  const hour = draw.integer(1, 12);
  const zh = `${chineseCount(hour)}点`;
  const roll = draw.uniform();
  if (roll < 0.45) return { zh, en: `${numberInWords(hour)} o'clock` };
  if (roll < 0.7) return { zh: `${zh}半`, en: `half past ${numberInWords(hour)}` };
  if (roll < 0.85) return { zh: `${zh}一刻`, en: `a quarter past ${numberInWords(hour)}` };
  const minutes = draw.from([5, 10, 20, 25]);
  const zhMinutes = minutes === 5 ? "零五" : chineseNumber(minutes);
  return { zh: `${zh}${zhMinutes}分`, en: `${numberInWords(minutes)} past ${numberInWords(hour)}` };
}

function clock(draw: Draw): Sentence {
  const time = drawClock(draw);
  return { zh: `现在${time.zh}`, en: `it is ${time.en}`, end: ".", key: undefined };
}

const DAYS = [
  { zh: "今天", en: "today is" },
  { zh: "明天", en: "tomorrow is" },
  { zh: "昨天", en: "yesterday was" },
  { zh: "后天", en: "the day after tomorrow is" },
] as const;

function weekday(draw: Draw): Sentence {
  const day = draw.from(DAYS);
  const { zh, en } = draw.from(WEEKDAYS);
  const is = draw.chance(0.5) ? "是" : "";
  return {
    zh: `${day.zh}${is}${draw.from(["星期", "周"])}${zh === "天" ? "日" : zh}`,
    en: `${day.en} ${en}`,
    end: ".",
    key: undefined,
  };
}

function date(draw: Draw): Sentence {
  const month = draw.integer(1, 12);
  const day = draw.integer(1, 28);
  const when = draw.from([...DAYS, BIRTHDAY, BIRTHDAY]);
  const zh = `${chineseNumber(month)}月${chineseNumber(day)}号`;
  const owner = when === BIRTHDAY ? drawSubject(draw) : undefined;
  const key = `date ${month} ${day}`;
  if (!owner)
    return { zh: `${when.zh}是${zh}`, en: `${when.en} ${MONTHS[month - 1]} ${numberInWords(day)}`, end: ".", key };
  return {
    zh: `${owner.zh}的生日是${zh}`,
    en: `${owner.possessive} birthday is ${MONTHS[month - 1]} ${numberInWords(day)}`,
    end: ".",
    key,
  };
}

const BIRTHDAY = { zh: "生日", en: "birthday" } as const;

const WEATHER_STATES = [
  ["冷", "cold"],
  ["热", "hot"],
  ["凉快", "cool"],
  ["暖和", "warm"],
] as const;

function weather(draw: Draw): Sentence {
  const here = draw.chance(0.5) ? { zh: "", at: "" } : draw.from(CITIES);
  const at = here.at === "" ? "" : ` ${here.at}`;
  const [zh, en] = draw.from(WEATHER_STATES);
  const [fall, rain] = draw.from([
    ["下雨", "rain"],
    ["下雪", "snow"],
  ] as const);
  const key = here.zh === "" ? undefined : `weather ${here.zh}${draw.chance(0.5) ? zh : fall}`;
  const roll = draw.uniform();
  const say = (zhText: string, enText: string, end: "." | "?" = "."): Sentence => ({
    zh: zhText,
    en: enText,
    end,
    key,
  });
  if (roll < 0.16) return say(`${here.zh}今天很${zh}`, `it is ${en}${at} today`);
  if (roll < 0.26) return say(`${here.zh}今天不${zh}`, `it is not ${en}${at} today`);
  if (roll < 0.36) return say(`${here.zh}今天${zh}吗`, `is it ${en}${at} today`, "?");
  if (roll < 0.48) return say(`${here.zh}昨天很${zh}`, `it was ${en}${at} yesterday`);
  if (roll < 0.6) return say(`${here.zh}昨天${fall}了`, `it ${rain}ed${at} yesterday`);
  if (roll < 0.7) return say(`${here.zh}昨天没${fall}`, `it did not ${rain}${at} yesterday`);
  const time = draw.from(FUTURE_TIMES);
  if (roll < 0.82) return say(`${here.zh}${time.zh}会${fall}`, `it will ${rain}${at} ${time.en}`);
  if (roll < 0.9) return say(`${here.zh}${time.zh}不会${fall}`, `it will not ${rain}${at} ${time.en}`);
  return say(`${here.zh}${time.zh}会${fall}吗`, `will it ${rain}${at} ${time.en}`, "?");
}

const ROUTINES = [
  ["起床", verb("get up"), ""],
  ["睡觉", verb("go to bed"), ""],
  ["上班", verb("go to work"), ""],
  ["下班", verb("get off work"), ""],
  ["上课", verb("have class"), ""],
  ["回家", verb("go home"), ""],
  ["吃早饭", verb("eat breakfast"), "早上"],
  ["吃午饭", verb("eat lunch"), ""],
  ["吃晚饭", verb("eat dinner"), "晚上"],
  ["开会", verb("have a meeting"), ""],
] as const;

/** 我七点起床: what somebody does at what time. */
export function routineSentence(draw: Draw): Sentence {
  const s = drawSubject(draw);
  const [zh, form] = draw.from(ROUTINES);
  const time = drawClock(draw);
  const key = `${s.en} ${zh}${time.zh}`;
  const roll = draw.uniform();
  if (roll < 0.15)
    return {
      zh: `${s.zh}几点${zh}`,
      en: `what time ${does(s.agreement)} ${s.en} ${form.base}`,
      end: "?",
      key: `${s.en} ${zh}几点`,
    };
  if (roll < 0.6)
    return { zh: `${s.zh}${time.zh}${zh}`, en: `${s.en} ${present(form, s.agreement)} at ${time.en}`, end: ".", key };
  const part = draw.from(DAY_PARTS);
  return {
    zh: `${s.zh}${part.zh}${time.zh}${zh}`,
    en: `${s.en} ${present(form, s.agreement)} at ${time.en} ${part.en}`,
    end: ".",
    key,
  };
}

/** 你想吃什么？ 他在做什么？ */
export function whatSentence(draw: Draw): Sentence {
  const s = drawSubject(draw);
  const [zh, form, key] = draw.from([
    ["吃", verb("eat"), "吃什么"],
    ["喝", verb("drink"), "喝什么"],
    ["买", verb("buy"), "买什么"],
    ["做", verb("do"), "做什么"],
    ["说", verb("say"), "说什么"],
    ["学", verb("learn"), "学什么"],
    ["写", verb("write"), "写什么"],
    ["找", verb("look for"), "找什么"],
  ] as const);
  const doIt = does(s.agreement);
  const end = "?";
  const id = `${s.en} ${key}`;
  const roll = draw.uniform();
  if (roll < 0.25) return { zh: `${s.zh}想${zh}什么`, en: `what ${doIt} ${s.en} want to ${form.base}`, end, key: id };
  if (roll < 0.45)
    return { zh: `${s.zh}正在${zh}什么`, en: `what ${be(s.agreement)} ${s.en} ${form.ing}`, end, key: id };
  if (roll < 0.6) return { zh: `${s.zh}昨天${zh}了什么`, en: `what did ${s.en} ${form.base} yesterday`, end, key: id };
  if (roll < 0.75) return { zh: `${s.zh}明天会${zh}什么`, en: `what will ${s.en} ${form.base} tomorrow`, end, key: id };
  if (roll < 0.85)
    return { zh: `${s.zh}去哪儿`, en: `where ${be(s.agreement)} ${s.en} going`, end, key: `${s.en} 去哪儿` };
  if (roll < 0.93) return { zh: `${s.zh}想去哪儿`, en: `where ${doIt} ${s.en} want to go`, end, key: `${s.en} 去哪儿` };
  return { zh: `${s.zh}喜欢${zh}什么`, en: `what ${doIt} ${s.en} like to ${form.base}`, end, key: id };
}

const REASONS = [
  ["很忙", "busy"],
  ["很累", "tired"],
  ["很高兴", "happy"],
  ["很紧张", "nervous"],
  ["很饿", "hungry"],
] as const;

/** If, because, but and think: two clauses in one sentence. */
export function joinedSentence(draw: Draw): Sentence {
  const s = drawSubject(draw);
  const a = draw.chance(0.4)
    ? plainAction(draw)
    : draw.chance(0.5)
      ? thingAction(draw, "not counted")
      : travelAction(draw);
  const zhDo = a.zhVerb + a.zhObject;
  const enDo = a.verb.base + a.rest;
  const key = `${s.en} ${a.key}`;
  const [zhState, enState] = draw.from(REASONS);
  const is = be(s.agreement);
  const pronoun = again(s.en);
  const roll = draw.uniform();
  if (roll < 0.2 && pronoun) {
    const [not, will] = draw.chance(0.5) ? ["不", "will not"] : ["会", "will"];
    return {
      zh: `如果明天下雨，${s.zh}就${not}${zhDo}`,
      en: `if it rains tomorrow, ${s.en} ${will} ${enDo}`,
      end: ".",
      key,
    };
  }
  if (roll < 0.45 && pronoun) {
    return {
      zh: `因为${s.zh}${zhState}，所以${s.zh}不想${zhDo}`,
      en: `because ${s.en} ${is} ${enState}, ${s.en} ${does(s.agreement)} not want to ${enDo}`,
      end: ".",
      key,
    };
  }
  if (roll < 0.65 && pronoun) {
    return {
      zh: `虽然${s.zh}${zhState}，但是${s.zh}想${zhDo}`,
      en: `although ${s.en} ${is} ${enState}, ${s.en} ${present(WANT, s.agreement)} to ${enDo}`,
      end: ".",
      key,
    };
  }
  const other = draw.from([
    ["我觉得", "I think that"],
    ["我知道", "I know that"],
    ["他说", "he says that"],
    ["她说", "she says that"],
    ["我希望", "I hope that"],
  ] as const);
  const clause = draw.chance(0.5)
    ? { zh: `${s.zh}明天会${zhDo}`, en: `${s.en} will ${enDo} tomorrow` }
    : { zh: `${s.zh}${zhState}`, en: `${s.en} ${is} ${enState}` };
  return {
    zh: other[0] + clause.zh,
    en: `${other[1]} ${clause.en}`,
    end: ".",
    key: clause.zh.endsWith(zhState) ? undefined : key,
  };
}

const WANT = verb("want");

/** True for subjects that a sentence may name twice: pronouns. */
function again(en: string): boolean {
  return ["I", "you", "he", "she", "we", "they"].includes(en);
}

const WORKPLACES = [
  ["医院", "at a hospital"],
  ["学校", "at a school"],
  ["银行", "at a bank"],
  ["大学", "at a university"],
  ["工厂", "in a factory"],
  ["餐厅", "in a restaurant"],
  ["书店", "in a bookstore"],
  ["酒店", "at a hotel"],
  ["图书馆", "in a library"],
  ["博物馆", "in a museum"],
  ["公司", "at a company"],
  ["超市", "in a supermarket"],
] as const;

const YEARS_OF = [
  ["学", "中文", verb("study"), " Chinese"],
  ["学", "英语", verb("study"), " English"],
  ["教", "数学", verb("teach", "taught"), " math"],
  ["弹", "钢琴", verb("play"), " the piano"],
  ["学", "历史", verb("study"), " history"],
] as const;

/** Where somebody works and for how long somebody did something. */
export function workSentence(draw: Draw): Sentence {
  const s = drawSubject(draw);
  const roll = draw.uniform();
  const [zh, at] = draw.from(WORKPLACES);
  const key = `${s.en} works ${zh}`;
  if (roll < 0.35)
    return {
      zh: `${s.zh}在一家${zh}工作`.replace("一家学校", "一所学校").replace("一家大学", "一所大学"),
      en: `${s.en} ${present(verb("work"), s.agreement)} ${at}`,
      end: ".",
      key,
    };
  if (roll < 0.5) {
    const city = draw.from(CITIES);
    return {
      zh: `${s.zh}在${city.zh}工作`,
      en: `${s.en} ${present(verb("work"), s.agreement)} ${city.at}`,
      end: ".",
      key: `${s.en} works ${city.zh}`,
    };
  }
  const count = draw.integer(2, 12);
  const [unitZh, unit] = draw.from([
    ["年", "years"],
    ["个月", "months"],
    ["个小时", "hours"],
  ] as const);
  const [verbZh, object, form, rest] = draw.from(YEARS_OF);
  return {
    zh: `${s.zh}${verbZh}了${chineseCount(count)}${unitZh}${object}`,
    en: `${s.en} ${form.past}${rest} for ${numberInWords(count)} ${unit}`,
    end: ".",
    key: `${s.en} ${verbZh}${object}${unitZh}`,
  };
}
