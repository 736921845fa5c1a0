import { runCases } from "../support/run_cases.ts";
import { cases } from "./linear.cases.ts";

await runCases(cases);
