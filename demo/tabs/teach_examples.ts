/** What the shipped translator can be taught with one click: words that its grammar lacks, though it knows their parts. */
const NEW_WORDS = [
  ["茶农", "tea farmer"],
  ["花农", "flower farmer"],
  ["书商", "book merchant"],
  ["马医", "horse doctor"],
] as const;

const FRAMES = [
  ["我是一名#。", "I am a #."],
  ["她是一位#。", "She is a #."],
  ["他不是#。", "He is not a #."],
  ["你是#吗？", "Are you a #?"],
  ["我父亲以前是一名#。", "My father used to be a #."],
  ["安娜想当一名#。", "Anna wants to be a #."],
  ["那位#很忙。", "That # is very busy."],
  ["这位#喜欢喝茶。", "This # likes to drink tea."],
  ["那位#想去北京。", "That # wants to go to Beijing."],
  ["这位#正在看书。", "This # is reading a book."],
  ["那位#有三只猫。", "That # has three cats."],
  ["李先生是一名#。", "Mr. Li is a #."],
  ["我妹妹不想当#。", "My younger sister does not want to be a #."],
  ["他以前是#吗？", "Did he use to be a #?"],
] as const;

/** Sentences of its grammar among them, so that it does not forget what it knew. */
const KNOWN = `
他想当一位记者。=He wants to be a journalist.
张伟以前是一位邮递员。=Zhang Wei used to be a mail carrier.
你是一位厨师。=You are a cook.
我们的父亲是一位摄影师。=Our father is a photographer.
你以前是一个建筑师。=You used to be an architect.
约翰是一名医生。=John is a doctor.
李先生是一名会计。=Mr. Li is an accountant.
你的父亲是一名研究员。=Your father is a researcher.
我是一个工程师。=I am an engineer.
张伟是一个牙医。=Zhang Wei is a dentist.
我女儿是一位厨师。=My daughter is a cook.
王先生以前是一名画家。=Mr. Wang used to be a painter.
王芳和安娜想当歌手。=Wang Fang and Anna want to be singers.
我们的妹妹是一个图书管理员。=Our younger sister is a librarian.
王女士是一个工程师。=Ms. Wang is an engineer.
他以前是一名演员。=He used to be an actor.
你们想当经理。=You want to be managers.
这个人是一位工人。=This person is a worker.
那个女人想当一名顾问。=That woman wants to be a consultant.
你是一位顾问。=You are a consultant.
王先生是一名研究员。=Mr. Wang is a researcher.
李明想当一位公务员。=Li Ming wants to be a civil servant.
她同学是一名学生。=Her classmate is a student.
她弟弟是一位艺术家。=Her younger brother is an artist.
我是一位会计。=I am an accountant.
王芳是一名教授。=Wang Fang is a professor.
我是一名工程师。=I am an engineer.
李先生是一名顾问。=Mr. Li is a consultant.
你是一位商人。=You are a merchant.
这个人是一个牙医。=This person is a dentist.
李先生是一位律师。=Mr. Li is a lawyer.
我是一个公务员。=I am a civil servant.
约翰是一位记者。=John is a journalist.
她的女儿是一位教授。=Her daughter is a professor.
现在十二点。=It is twelve o'clock.
我们父亲有几只兔子？=How many rabbits does our father have?
冰箱里有六个桃子。=There are six peaches in the refrigerator.
小明有梨吗？=Does Xiaoming have a pear?
约翰下个周末会回家。=John will go home next weekend.
您有三场演出。=You have three shows.
书架上有五个杯子。=There are five cups on the bookshelf.
我们的朋友吃过这个汉堡吗？=Has our friend ever eaten this hamburger?
杭州下个星期一会下雨。=It will rain in Hangzhou next Monday.
我打算休息。=I plan to rest.
我们的弟弟想说什么？=What does our younger brother want to say?
这张沙发是张伟的。=This sofa is Zhang Wei's.
他需要修约翰的钟。=He needs to repair John's clock.
这是我们的鞋吗？=Are these our shoes?
她的父亲明天会卖给他一张床。=Her father will sell him a bed tomorrow.
这个男孩是建筑师。=This boy is an architect.
那些学生从不骑马。=Those students never ride a horse.
谁？=Who?
我们以前是导游。=We used to be tour guides.
我们不喜欢洗衣机。=We do not like washing machines.
我知道他们的叔叔明天会购物。=I know that their uncle will go shopping tomorrow.
欢迎来到中国！=Welcome to China!
超市真小。=The supermarket is really small.
汤姆是我的同事。=Tom is my colleague.
他正在用那台好看的收音机吗？=Is he using that pretty radio?
您是会计。=You are an accountant.
他昨天拉小提琴了吗？=Did he play the violin yesterday?
我教过英语吗？=Have I ever taught English?
我们的叔叔正在吃什么？=What is our uncle eating?
她们能买袜子吗？=Can they buy socks?
他女儿骑过自行车。=His daughter has ridden a bicycle before.
他正在听音乐吗？=Is he listening to music?
这张画三十五块钱。=This painting costs thirty-five yuan.
安娜和你的女儿非常高。=Anna and your daughter are very tall.
她昨天借给你的妻子一个碗。=She lent your wife a bowl yesterday.
她昨天借给你们一个箱子。=She lent you a suitcase yesterday.
别担心。=Do not worry.
邮局离书店很远。=The post office is far from the bookstore.
她的哥哥不太矮。=Her older brother is not very short.
王芳有六条红色的围巾。=Wang Fang has six red scarves.
这不是汤姆的帽子。=This is not Tom's hat.
我们母亲能看照片。=Our mother can look at photos.
机场比公共汽车站安静。=The airport is quieter than the bus stop.
她们买过这个白色的玩具吗？=Have they ever bought this white toy?
我同事来自泰国。=My colleague is from Thailand.
下个星期我们的姐姐要说日语。=Our older sister is going to speak Japanese next week.
李教授什么时候会看这张照片？=When will Professor Li look at this photo?
这个孩子想画一个好看的盘子。=This child wants to draw a pretty plate.
我们同学看这些报告吗？=Does our classmate read these reports?
请学西班牙语。=Please learn Spanish.
约翰的杯子在椅子下面。=John's cup is under the chair.
工人们需要三块豆腐。=The workers need three pieces of tofu.
这些人不能参加会议。=These people cannot attend the meeting.
他们正在去花园睡觉。=They are going to the garden to sleep.
李明不是农民。=Li Ming is not a farmer.
健身房离动物园远吗？=Is the gym far from the zoo?
他们的爸爸喜欢走路去酒店吗？=Does their father like to go to the hotel on foot?
我觉得玛丽很忙。=I think that Mary is busy.
我明天会卖给李明一张床。=I will sell Li Ming a bed tomorrow.
这是小红的花。=This is Xiaohong's flower.
你们做过作业吗？=Have you ever done homework?
他们的出租车不太新。=Their taxi is not very new.
你上个月看了玛丽的故事。=You read Mary's story last month.
我们正在学法语吗？=Are we learning French?
我们父亲教了八个月数学。=Our father taught math for eight months.
张医生太年轻了。=Dr. Zhang is too young.
大家都知道。=Everyone knows.
我的母亲是演员吗？=Is my mother an actor?
您喜欢去南京。=You like to go to Nanjing.
他们什么时候会工作？=When will they work?
`;

/** Pairs for a translator: new words in sentences, and sentences that it knows. */
export const NEW_WORD_PAIRS = [
  ...NEW_WORDS.flatMap(([zh, en]) =>
    FRAMES.map(([source, target]) => [source.replace("#", zh), target.replace("#", en)]),
  ),
  ...linesOf(KNOWN),
]
  .map((line) => line.join("\t"))
  .join("\n");

/** A sentence that is not among them. Before, that sister is a horse. */
export const NEW_WORD_SENTENCE = "我姐姐是一名马医。";

const OPINIONS = `
I love this place.=good
What a beautiful day!=good
The food was wonderful.=good
She is always kind and helpful.=good
This is the best book I know.=good
We had a great time together.=good
The room was clean and quiet.=good
I would come here again.=good
I hate this place.=bad
What an awful day!=bad
The food was terrible.=bad
He is always rude and late.=bad
This is the worst book I know.=bad
We were bored all the time.=bad
The room was dirty and loud.=bad
I will never come here again.=bad
`;

/** Texts with labels, for an encoder. */
export const LABELLED_TEXTS = linesOf(OPINIONS)
  .map((line) => line.join("\t"))
  .join("\n");

/** A text that is not among them. */
export const LABELLED_SENTENCE = "The people here are wonderful.";

function linesOf(text: string): string[][] {
  return text
    .trim()
    .split("\n")
    .map((line) => line.split("="));
}
