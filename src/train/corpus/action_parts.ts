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
import type { Verb } from "./english.ts";
import { DEFINITE_PEOPLE, NAMES, type Person, PRONOUNS, RELATIVES, together } from "./people.ts";
import { PLACES } from "./places.ts";
import type { Time } from "./times.ts";

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

/** Something that a person does. */
export function drawAction(draw: Draw, subject: Person, style: ObjectStyle): Action {
  const roll = draw.uniform();
  if (roll < 0.5) return thingAction(draw, style);
  if (roll < 0.74) return plainAction(draw);
  if (roll < 0.9) return travelAction(draw);
  return personAction(draw, subject);
}

/** Something that has an end, unlike knowing or being. */
export function drawEvent(draw: Draw, subject: Person, style: ObjectStyle): Action {
  for (;;) {
    const action = drawAction(draw, subject, style);
    if (action.isEvent) return action;
  }
}

/** The parts that frames put together: what stands before the Chinese verb and after the English one. */
export interface Parts {
  readonly s: Person;
  readonly a: Action;
  /** Of a place or a companion, before the Chinese verb. */
  readonly pre: string;
  /** The same, with all that follows the English verb. */
  readonly rest: string;
  readonly draw: Draw;
}

/** Where, or with whom; most often neither. */
export function drawAdjunct(draw: Draw, s: Person, a: Action, fits: boolean): { pre: string; rest: string } {
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

/** The Chinese verb with its object and what stands before it. */
export function zhDo({ a, pre }: Parts): string {
  return pre + a.zhVerb + a.zhObject;
}

/** 正在 before the action; before a place the two 在 become one: 正在家看书. */
export function zhDoing(p: Parts): string {
  return p.pre.startsWith("在") ? `正${zhDo(p)}` : `正在${zhDo(p)}`;
}

/** Verb, 了 and object: after the verb if the object is a certain one, else at the end. */
export function zhDid({ a, pre }: Parts): string {
  return a.isBare ? `${pre}${a.zhVerb}${a.zhObject}了` : `${pre}${a.zhVerb}了${a.zhObject}`;
}

/** A time before or after the subject, as Chinese allows. */
export function zhWhen({ s, draw }: Parts, time: Time): string {
  return draw.chance(0.3) ? time.zh + s.zh : s.zh + time.zh;
}

/** Subject, a form of the verb, and all that follows. */
export function says({ s, rest }: Parts, form: (verb: Verb) => string, verb: Verb, after = ""): string {
  return `${s.en} ${form(verb)}${rest}${after}`;
}
