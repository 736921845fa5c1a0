import { runCases } from "../support/run_cases.ts";
import { cases } from "./sgd.cases.ts";

await runCases(cases);
