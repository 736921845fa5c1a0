import {
  type Action,
  type ObjectStyle,
  otherThan,
  personAction,
  plainAction,
  thingAction,
  travelAction,
} from "./actions.ts";
import type { Draw } from "./draw.ts";
import { be, does, has, present, type Verb } from "./english.ts";
import { DEFINITE_PEOPLE, NAMES, type Person, PRONOUNS, RELATIVES, together } from "./people.ts";
import { PLACES } from "./places.ts";
import { FREQUENCIES, FUTURE_TIMES, HABIT_TIMES, PAST_TIMES, type Time } from "./times.ts";

/** A sentence in both languages without its end, and what it ends with. */
export interface Sentence {
  readonly zh: string;
  readonly en: string;
  readonly end: "." | "?" | "!";
  /** Its combination of content words; undefined for what is never held out. */
  readonly key: string | undefined;
}

/** A subject: pronouns most often, then people by name, relation or description. */
export function drawSubject(draw: Draw): Person {
  const roll = draw.uniform();
  if (roll < 0.42) return draw.from(PRONOUNS);
  if (roll < 0.64) return draw.from(RELATIVES);
  if (roll < 0.82) return draw.from(NAMES);
  if (roll < 0.95) return draw.from(DEFINITE_PEOPLE);
  const first = draw.from(draw.chance(0.5) ? PRONOUNS.slice(0, 1) : NAMES);
  const others = draw.from([NAMES, RELATIVES]).filter(({ en }) => en !== first.en);
  return together(first, draw.from(others));
}

function drawAction(draw: Draw, subject: Person, style: ObjectStyle): Action {
  const roll = draw.uniform();
  if (roll < 0.5) return thingAction(draw, style);
  if (roll < 0.74) return plainAction(draw);
  if (roll < 0.9) return travelAction(draw);
  return personAction(draw, subject);
}

function drawEvent(draw: Draw, subject: Person, style: ObjectStyle): Action {
  for (;;) {
    const action = drawAction(draw, subject, style);
    if (action.isEvent) return action;
  }
}

/** The parts that frames put together: what stands before the Chinese verb and after the English one. */
interface Parts {
  readonly s: Person;
  readonly a: Action;
  /** Of a place or a companion, before the Chinese verb. */
  readonly pre: string;
  /** The same, with all that follows the English verb. */
  readonly rest: string;
  readonly draw: Draw;
}

type Built = readonly [zh: string, en: string, end?: "." | "?"];

/** One way to say that somebody does something: its weight, the objects that it takes, and the two sentences. */
interface ActionFrame {
  readonly weight: number;
  readonly style: ObjectStyle;
  readonly needs?: "event" | "aspect" | "object";
  readonly build: (parts: Parts) => Built;
}

/** The Chinese verb with its object and what stands before it. */
function zhDo({ a, pre }: Parts): string {
  return pre + a.zhVerb + a.zhObject;
}

/** 正在 before the action; before a place the two 在 become one: 正在家看书. */
function zhDoing(p: Parts): string {
  return p.pre.startsWith("在") ? `正${zhDo(p)}` : `正在${zhDo(p)}`;
}

/** Verb, 了 and object: after the verb if the object is a certain one, else at the end. */
function zhDid({ a, pre }: Parts): string {
  return a.isBare ? `${pre}${a.zhVerb}${a.zhObject}了` : `${pre}${a.zhVerb}了${a.zhObject}`;
}

/** A time before or after the subject, as Chinese allows. */
function zhWhen({ s, draw }: Parts, time: Time): string {
  return draw.chance(0.3) ? time.zh + s.zh : s.zh + time.zh;
}

function says({ s, rest }: Parts, form: (verb: Verb) => string, verb: Verb, after = ""): string {
  return `${s.en} ${form(verb)}${rest}${after}`;
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
const FRAMES: readonly ActionFrame[] = [
  ...PRESENT,
  ...PROGRESSIVE,
  ...PAST,
  ...FUTURE,
  ...PERFECT,
  ...MODAL,
  ...QUESTIONS,
];

/** A sentence about what somebody does, did, will, wants to or must do. */
export function actionSentence(draw: Draw): Sentence {
  const frame = draw.weighted(FRAMES);
  const s = drawSubject(draw);
  for (;;) {
    const a = frame.needs === undefined ? drawAction(draw, s, frame.style) : drawEvent(draw, s, frame.style);
    if (frame.needs === "aspect" && !a.takesAspect) continue;
    if (frame.needs === "object" && !a.takesPlace) continue;
    const { pre, rest } = drawAdjunct(draw, s, a, frame.needs === "event");
    const [zh, en, end = "."] = frame.build({ s, a, pre, rest, draw });
    return { zh, en, end, key: `${s.en} ${a.key}` };
  }
}

/** Where, or with whom; most often neither. */
function drawAdjunct(draw: Draw, s: Person, a: Action, fits: boolean): { pre: string; rest: string } {
  const roll = draw.uniform();
  if (fits && roll < 0.13 && a.takesPlace) {
    const place = draw.chance(0.25) ? { zh: "家", at: "at home" } : draw.from(PLACES);
    return { pre: `在${place.zh}`, rest: `${a.rest} ${place.at}` };
  }
  if (fits && roll > 0.91) {
    const other = otherThan(draw, s);
    return { pre: `和${other.zh}一起`, rest: `${a.rest} with ${other.object}` };
  }
  return { pre: "", rest: a.rest };
}

/** 请喝茶, 别看电视, 我们去公园吧. */
export function requestSentence(draw: Draw): Sentence {
  const you = PRONOUNS[1] as Person;
  const roll = draw.uniform();
  const a = drawEvent(draw, you, roll < 0.33 ? "any" : "not counted");
  const what = `${a.verb.base}${a.rest}`;
  const zh = a.zhVerb + a.zhObject;
  const key = `request ${a.key}`;
  if (roll < 0.33) return { zh: `请${zh}`, en: `please ${what}`, end: ".", key };
  if (roll < 0.5) return { zh: `别${zh}`, en: `do not ${what}`, end: ".", key };
  if (roll < 0.66) return { zh: `请不要${zh}`, en: `please do not ${what}`, end: ".", key };
  return { zh: `我们${zh}吧`, en: `let us ${what}`, end: ".", key };
}

/** 谁在喝茶？ and 昨天谁买了这本书？ */
export function whoSentence(draw: Draw): Sentence {
  const roll = draw.uniform();
  const a = drawEvent(draw, NAMES[0] as Person, roll < 0.3 ? "any" : "not counted");
  const p: Parts = { s: NAMES[0] as Person, a, pre: "", rest: a.rest, draw };
  const key = `who ${a.key}`;
  if (roll < 0.3) {
    const time = draw.from(PAST_TIMES);
    return { zh: `${time.zh}谁${zhDid(p)}`, en: `who ${a.verb.past}${a.rest} ${time.en}`, end: "?", key };
  }
  if (roll < 0.55) return { zh: `谁正在${zhDo(p)}`, en: `who is ${a.verb.ing}${a.rest}`, end: "?", key };
  if (roll < 0.8) return { zh: `谁想${zhDo(p)}`, en: `who wants to ${a.verb.base}${a.rest}`, end: "?", key };
  return { zh: `谁会${zhDo(p)}`, en: `who will ${a.verb.base}${a.rest}`, end: "?", key };
}
