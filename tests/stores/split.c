/* A program with three functions, whose addresses tests/stores.rs sends without names. */
volatile unsigned long work;

__attribute__((noinline)) void hot(void) {
	for (int i = 0; i < 60; i++)
		work += i;
}

__attribute__((noinline)) void warm(void) {
	for (int i = 0; i < 30; i++)
		work *= i;
}

__attribute__((noinline)) void cold(void) {
	for (int i = 0; i < 10; i++)
		work ^= i;
}

int main(void) {
	for (;;) {
		hot();
		warm();
		cold();
	}
}
