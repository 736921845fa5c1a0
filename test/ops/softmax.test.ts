import { runCases } from "../support/run_cases.ts";
import { cases } from "./softmax.cases.ts";

await runCases(cases);
