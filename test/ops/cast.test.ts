import { runCases } from "../support/run_cases.ts";
import { cases } from "./cast.cases.ts";

await runCases(cases);
