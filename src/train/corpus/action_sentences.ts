import { ACTION_FRAMES } from "./action_frames.ts";
import {
  drawAction,
  drawAdjunct,
  drawEvent,
  drawSubject,
  zhDid,
  zhDo,
  type Parts,
  type Sentence,
} from "./action_parts.ts";
import type { Draw } from "./draw.ts";
import { NAMES, type Person, PRONOUNS } from "./people.ts";
import { PAST_TIMES } from "./times.ts";

/** A sentence about what somebody does, did, will, wants to or must do. */
export function actionSentence(draw: Draw): Sentence {
  const frame = draw.weighted(ACTION_FRAMES);
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
