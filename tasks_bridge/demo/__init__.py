"""The whole product at work on one machine, and a verdict on whether it kept its promises."""
