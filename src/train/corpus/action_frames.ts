import type { ObjectStyle } from "./actions.ts";
import { be, does, has, present } from "./english.ts";
import { type Parts, says, zhDid, zhDo, zhDoing, zhWhen } from "./action_parts.ts";
import { FREQUENCIES, FUTURE_TIMES, HABIT_TIMES, PAST_TIMES } from "./times.ts";

type Built = readonly [zh: string, en: string, end?: "." | "?"];

/** One way to say that somebody does something: its weight, the objects that it takes, and the two sentences. */
export interface ActionFrame {
  readonly weight: number;
  readonly style: ObjectStyle;
  readonly needs?: "event" | "aspect" | "object";
  readonly build: (parts: Parts) => Built;
}

/** Statements, denials and questions made by an auxiliary and the bare verb: want to, can, must. */
function modal(weight: number, zh: string, en: (p: Parts) => string, style: ObjectStyle = "any"): ActionFrame {
  return {
    weight,
    style,
    needs: "event",
    build: (p) => [`${p.s.zh}${zh}${zhDo(p)}`, `${p.s.en} ${en(p)} ${p.a.verb.base}${p.rest}`],
  };
}

function modalQuestion(weight: number, zh: string, en: (p: Parts) => readonly [string, string]): ActionFrame {
  return {
    weight,
    style: "any",
    needs: "event",
    build: (p) => {
      const [before, after] = en(p);
      return [`${p.s.zh}${zh}${zhDo(p)}吗`, `${before} ${p.s.en} ${after}${p.a.verb.base}${p.rest}`, "?"];
    },
  };
}

const wants = (p: Parts): string => (p.s.agreement === "third" ? "wants" : "want");
const likes = (p: Parts): string => (p.s.agreement === "third" ? "likes" : "like");
const doIt = (p: Parts): string => does(p.s.agreement);

const PRESENT: readonly ActionFrame[] = [
  { weight: 3, style: "any", build: (p) => [p.s.zh + zhDo(p), says(p, (v) => present(v, p.s.agreement), p.a.verb)] },
  {
    weight: 3,
    style: "not counted",
    build: (p) => [`${p.s.zh}不${zhDo(p)}`, says(p, (v) => `${doIt(p)} not ${v.base}`, p.a.verb)],
  },
  {
    weight: 3,
    style: "not counted",
    build: (p) => [`${p.s.zh}${zhDo(p)}吗`, `${doIt(p)} ${p.s.en} ${p.a.verb.base}${p.rest}`, "?"],
  },
  {
    weight: 1,
    style: "not counted",
    build: (p) => {
      const [first = ""] = p.a.zhVerb;
      return [`${p.s.zh}${first}不${zhDo(p)}`, `${doIt(p)} ${p.s.en} ${p.a.verb.base}${p.rest}`, "?"];
    },
  },
  {
    weight: 5,
    style: "any",
    needs: "event",
    build: (p) => {
      const time = p.draw.from(HABIT_TIMES);
      const en = says(p, (v) => present(v, p.s.agreement), p.a.verb, ` ${time.en}`);
      return [zhWhen(p, time) + (p.draw.chance(0.4) ? "都" : "") + zhDo(p), en];
    },
  },
  {
    weight: 4,
    style: "bare",
    needs: "event",
    build: (p) => {
      const often = p.draw.from(FREQUENCIES);
      return [p.s.zh + often.zh + zhDo(p), `${p.s.en} ${often.en} ${present(p.a.verb, p.s.agreement)}${p.rest}`];
    },
  },
  {
    weight: 2,
    style: "bare",
    needs: "event",
    build: (p) => {
      const time = p.draw.from(HABIT_TIMES);
      return [`${p.s.zh}${time.zh}都${zhDo(p)}吗`, `${doIt(p)} ${p.s.en} ${p.a.verb.base}${p.rest} ${time.en}`, "?"];
    },
  },
];

const PROGRESSIVE: readonly ActionFrame[] = [
  {
    weight: 4,
    style: "any",
    needs: "event",
    build: (p) => [p.s.zh + zhDoing(p), says(p, (v) => `${be(p.s.agreement)} ${v.ing}`, p.a.verb)],
  },
  {
    weight: 1,
    style: "not counted",
    needs: "event",
    build: (p) => [
      p.s.zh + zhDoing(p).replace("正", "没"),
      says(p, (v) => `${be(p.s.agreement)} not ${v.ing}`, p.a.verb),
    ],
  },
  {
    weight: 2,
    style: "not counted",
    needs: "event",
    build: (p) => [`${p.s.zh}${zhDoing(p)}吗`, `${be(p.s.agreement)} ${p.s.en} ${p.a.verb.ing}${p.rest}`, "?"],
  },
];

const PAST: readonly ActionFrame[] = [
  {
    weight: 7,
    style: "any",
    needs: "event",
    build: (p) => {
      const time = p.draw.from(PAST_TIMES);
      return [zhWhen(p, time) + zhDid(p), says(p, (v) => v.past, p.a.verb, ` ${time.en}`)];
    },
  },
  {
    weight: 4,
    style: "not counted",
    needs: "event",
    build: (p) => {
      const time = p.draw.from(PAST_TIMES);
      const not = p.draw.chance(0.3) ? "没有" : "没";
      return [zhWhen(p, time) + not + zhDo(p), says(p, (v) => `did not ${v.base}`, p.a.verb, ` ${time.en}`)];
    },
  },
  {
    weight: 3,
    style: "any",
    needs: "event",
    build: (p) => {
      const time = p.draw.from(PAST_TIMES);
      return [`${zhWhen(p, time)}${zhDid(p)}吗`, `did ${p.s.en} ${p.a.verb.base}${p.rest} ${time.en}`, "?"];
    },
  },
];

const FUTURE: readonly ActionFrame[] = [
  {
    weight: 4,
    style: "any",
    needs: "event",
    build: (p) => {
      const time = p.draw.from(FUTURE_TIMES);
      return [`${zhWhen(p, time)}会${zhDo(p)}`, says(p, (v) => `will ${v.base}`, p.a.verb, ` ${time.en}`)];
    },
  },
  {
    weight: 4,
    style: "any",
    needs: "event",
    build: (p) => {
      const time = p.draw.from(FUTURE_TIMES);
      const en = says(p, (v) => `${be(p.s.agreement)} going to ${v.base}`, p.a.verb, ` ${time.en}`);
      return [`${zhWhen(p, time)}要${zhDo(p)}`, en];
    },
  },
  {
    weight: 3,
    style: "not counted",
    needs: "event",
    build: (p) => {
      const time = p.draw.from(FUTURE_TIMES);
      return [`${zhWhen(p, time)}不会${zhDo(p)}`, says(p, (v) => `will not ${v.base}`, p.a.verb, ` ${time.en}`)];
    },
  },
  {
    weight: 3,
    style: "any",
    needs: "event",
    build: (p) => {
      const time = p.draw.from(FUTURE_TIMES);
      return [`${zhWhen(p, time)}会${zhDo(p)}吗`, `will ${p.s.en} ${p.a.verb.base}${p.rest} ${time.en}`, "?"];
    },
  },
];

const PERFECT: readonly ActionFrame[] = [
  {
    weight: 3,
    style: "any",
    needs: "event",
    build: (p) => {
      const zh = p.a.isBare ? `${zhDo(p)}了` : zhDid(p);
      return [`${p.s.zh}已经${zh}`, says(p, (v) => `${has(p.s.agreement)} already ${v.participle}`, p.a.verb)];
    },
  },
  {
    weight: 2,
    style: "not counted",
    needs: "event",
    build: (p) => [
      `${p.s.zh}还没${zhDo(p)}`,
      says(p, (v) => `${has(p.s.agreement)} not ${v.participle}`, p.a.verb, " yet"),
    ],
  },
  {
    weight: 2,
    style: "not counted",
    needs: "aspect",
    build: ({ s, a }) => [
      `${s.zh}${a.zhVerb}过${a.zhObject}`,
      `${s.en} ${has(s.agreement)} ${a.verb.participle}${a.rest} before`,
    ],
  },
  {
    weight: 2,
    style: "not counted",
    needs: "aspect",
    build: ({ s, a }) => [
      `${s.zh}没${a.zhVerb}过${a.zhObject}`,
      `${s.en} ${has(s.agreement)} never ${a.verb.participle}${a.rest}`,
    ],
  },
  {
    weight: 2,
    style: "not counted",
    needs: "aspect",
    build: ({ s, a }) => [
      `${s.zh}${a.zhVerb}过${a.zhObject}吗`,
      `${has(s.agreement)} ${s.en} ever ${a.verb.participle}${a.rest}`,
      "?",
    ],
  },
];

const MODAL: readonly ActionFrame[] = [
  modal(4, "想", (p) => `${wants(p)} to`),
  modal(3, "不想", (p) => `${doIt(p)} not want to`, "not counted"),
  modalQuestion(3, "想", (p) => [doIt(p), "want to "]),
  modal(3, "喜欢", (p) => `${likes(p)} to`, "bare"),
  modal(2, "不喜欢", (p) => `${doIt(p)} not like to`, "bare"),
  modalQuestion(2, "喜欢", (p) => [doIt(p), "like to "]),
  modal(2, "能", () => "can"),
  modal(2, "不能", () => "cannot", "not counted"),
  modalQuestion(2, "能", () => ["can", ""]),
  modal(1, "可以", () => "may"),
  modalQuestion(1, "可以", () => ["may", ""]),
  modal(2, "必须", () => "must"),
  modal(2, "应该", () => "should"),
  modal(2, "不应该", () => "should not", "not counted"),
  modal(2, "需要", (p) => `${p.s.agreement === "third" ? "needs" : "need"} to`),
  modal(1, "不需要", (p) => `${doIt(p)} not need to`, "not counted"),
  modal(1, "打算", (p) => `${p.s.agreement === "third" ? "plans" : "plan"} to`),
  modal(1, "希望能", (p) => `${p.s.agreement === "third" ? "hopes" : "hope"} to be able to`),
];

const QUESTIONS: readonly ActionFrame[] = [
  {
    weight: 3,
    style: "not counted",
    needs: "event",
    build: (p) => [`${p.s.zh}为什么${zhDo(p)}`, `why ${doIt(p)} ${p.s.en} ${p.a.verb.base}${p.rest}`, "?"],
  },
  {
    weight: 1,
    style: "not counted",
    needs: "event",
    build: (p) => [`${p.s.zh}为什么不${zhDo(p)}`, `why ${doIt(p)} ${p.s.en} not ${p.a.verb.base}${p.rest}`, "?"],
  },
  {
    weight: 2,
    style: "any",
    needs: "event",
    build: (p) => [`${p.s.zh}什么时候会${zhDo(p)}`, `when will ${p.s.en} ${p.a.verb.base}${p.rest}`, "?"],
  },
  {
    weight: 2,
    style: "not counted",
    needs: "object",
    build: ({ s, a }) => [
      `${s.zh}在哪儿${a.zhVerb}${a.zhObject}`,
      `where ${does(s.agreement)} ${s.en} ${a.verb.base}${a.rest}`,
      "?",
    ],
  },
];

/** Every way in which an action becomes a sentence. */
export const ACTION_FRAMES: readonly ActionFrame[] = [
  ...PRESENT,
  ...PROGRESSIVE,
  ...PAST,
  ...FUTURE,
  ...PERFECT,
  ...MODAL,
  ...QUESTIONS,
];
