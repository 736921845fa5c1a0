import type { Agreement } from "./english.ts";

/** Somebody a sentence can be about, in both languages. */
export interface Person {
  readonly zh: string;
  /** As a subject within a sentence: "I", "my father", "Mary". */
  readonly en: string;
  /** As an object: "me", "my father". */
  readonly object: string;
  /** Before a thing: "my", "Mary's". */
  readonly possessive: string;
  readonly agreement: Agreement;
  readonly isPronoun: boolean;
}

function person(zh: string, en: string, agreement: Agreement = "third"): Person {
  const possessive = agreement === "plural" && en.endsWith("s") ? `${en}'` : `${en}'s`;
  return { zh, en, object: en, possessive, agreement, isPronoun: false };
}

function pronoun(
  zh: string,
  [en, object, possessive]: readonly [string, string, string],
  agreement: Agreement,
): Person {
  return { zh, en, object, possessive, agreement, isPronoun: true };
}

export const PRONOUNS: readonly Person[] = [
  pronoun("我", ["I", "me", "my"], "first"),
  pronoun("你", ["you", "you", "your"], "plural"),
  pronoun("他", ["he", "him", "his"], "third"),
  pronoun("她", ["she", "her", "her"], "third"),
  pronoun("我们", ["we", "us", "our"], "plural"),
  pronoun("你们", ["you", "you", "your"], "plural"),
  pronoun("他们", ["they", "them", "their"], "plural"),
  pronoun("她们", ["they", "them", "their"], "plural"),
  pronoun("您", ["you", "you", "your"], "plural"),
];

export const NAMES: readonly Person[] = [
  person("小明", "Xiaoming"),
  person("小红", "Xiaohong"),
  person("李明", "Li Ming"),
  person("王芳", "Wang Fang"),
  person("张伟", "Zhang Wei"),
  person("玛丽", "Mary"),
  person("汤姆", "Tom"),
  person("约翰", "John"),
  person("安娜", "Anna"),
  person("大卫", "David"),
  person("王先生", "Mr. Wang"),
  person("李先生", "Mr. Li"),
  person("陈女士", "Ms. Chen"),
  person("王女士", "Ms. Wang"),
  person("张医生", "Dr. Zhang"),
  person("李教授", "Professor Li"),
];

/** Bare or with a demonstrative, all of them definite in English. */
export const DEFINITE_PEOPLE: readonly Person[] = [
  person("老师", "the teacher"),
  person("医生", "the doctor"),
  person("孩子们", "the children", "plural"),
  person("学生们", "the students", "plural"),
  person("老师们", "the teachers", "plural"),
  person("工人们", "the workers", "plural"),
  person("这位老师", "this teacher"),
  person("那位老师", "that teacher"),
  person("这位医生", "this doctor"),
  person("那位医生", "that doctor"),
  person("这位律师", "this lawyer"),
  person("那位记者", "that journalist"),
  person("这个学生", "this student"),
  person("那个学生", "that student"),
  person("这些学生", "these students", "plural"),
  person("那些学生", "those students", "plural"),
  person("这个孩子", "this child"),
  person("那个孩子", "that child"),
  person("这些孩子", "these children", "plural"),
  person("那些孩子", "those children", "plural"),
  person("这个男孩", "this boy"),
  person("那个男孩", "that boy"),
  person("这个女孩", "this girl"),
  person("那个女孩", "that girl"),
  person("这个男人", "this man"),
  person("那个男人", "that man"),
  person("这个女人", "this woman"),
  person("那个女人", "that woman"),
  person("这个人", "this person"),
  person("那个人", "that person"),
  person("这些人", "these people", "plural"),
  person("那些人", "those people", "plural"),
];

/** Who somebody is to somebody else. */
interface Relation {
  readonly zh: string;
  readonly en: string;
  /** The possessors that it does not go with, such as 她 with 妻子. */
  readonly notOf?: readonly string[];
  readonly plural?: boolean;
}

export const RELATIONS: readonly Relation[] = [
  { zh: "爸爸", en: "father" },
  { zh: "妈妈", en: "mother" },
  { zh: "父亲", en: "father" },
  { zh: "母亲", en: "mother" },
  { zh: "哥哥", en: "older brother" },
  { zh: "姐姐", en: "older sister" },
  { zh: "弟弟", en: "younger brother" },
  { zh: "妹妹", en: "younger sister" },
  { zh: "爷爷", en: "grandfather" },
  { zh: "奶奶", en: "grandmother" },
  { zh: "丈夫", en: "husband", notOf: ["他", "我们", "他们"] },
  { zh: "妻子", en: "wife", notOf: ["她", "我们", "他们"] },
  { zh: "儿子", en: "son" },
  { zh: "女儿", en: "daughter" },
  { zh: "叔叔", en: "uncle" },
  { zh: "阿姨", en: "aunt" },
  { zh: "父母", en: "parents", plural: true },
  { zh: "孩子", en: "child" },
  { zh: "朋友", en: "friend" },
  { zh: "同事", en: "colleague" },
  { zh: "同学", en: "classmate" },
  { zh: "老板", en: "boss" },
  { zh: "邻居", en: "neighbor" },
  { zh: "老师", en: "teacher" },
];

const OWNERS = PRONOUNS.filter(({ zh }) => ["我", "你", "他", "她", "我们", "他们"].includes(zh));

/** 我爸爸 and 我的爸爸, my father: each relation of each pronoun, once short and once with 的. */
export const RELATIVES: readonly Person[] = RELATIONS.flatMap(({ zh, en, notOf, plural }) =>
  OWNERS.filter((owner) => !notOf?.includes(owner.zh)).flatMap((owner) =>
    ["", "的"].map((link) =>
      person(`${owner.zh}${link}${zh}`, `${owner.possessive} ${en}`, plural ? "plural" : "third"),
    ),
  ),
);

/** Two people as one subject, "Tom and Mary"; the speaker comes last in English. */
export function together(first: Person, second: Person): Person {
  const [a, b] = first.zh === "我" ? [second, first] : [first, second];
  return {
    zh: `${first.zh}和${second.zh}`,
    en: `${a.en} and ${b.en}`,
    object: `${a.object} and ${b.object}`,
    possessive: `${a.en} and ${b.possessive}`,
    agreement: "plural",
    isPronoun: false,
  };
}

/** A noun for what a person is, with its measure word. */
export interface Profession {
  readonly zh: string;
  readonly en: string;
}

const PROFESSION_WORDS = `工程师 engineer;老师 teacher;医生 doctor;护士 nurse;学生 student;律师 lawyer;警察 police officer;司机 driver;
厨师 cook;演员 actor;歌手 singer;作家 writer;记者 journalist;画家 painter;科学家 scientist;经理 manager;服务员 waiter;商人 merchant;
农民 farmer;工人 worker;会计 accountant;建筑师 architect;程序员 programmer;音乐家 musician;艺术家 artist;运动员 athlete;飞行员 pilot;
教授 professor;研究员 researcher;秘书 secretary;翻译 translator;导游 tour guide;售货员 shop assistant;理发师 barber;摄影师 photographer;
设计师 designer;牙医 dentist;士兵 soldier;消防员 firefighter;编辑 editor;大学生 college student;公务员 civil servant;教练 coach;
舞蹈家 dancer;诗人 poet;图书管理员 librarian;邮递员 mail carrier;电工 electrician;面包师 baker;顾问 consultant`;

export const PROFESSIONS: readonly Profession[] = PROFESSION_WORDS.split(";").map((entry) => {
  const [zh = "", ...en] = entry.trim().split(" ");
  return { zh, en: en.join(" ") };
});
