import { runCases } from "../support/run_cases.ts";
import { cases } from "./packed.cases.ts";

await runCases(cases);
