/* A program whose three functions have 60, 30 and 10 hundredths of its time, in turns of less than a millisecond: all of them
 * spend it in the same loop. */
volatile unsigned long work;

__attribute__((noinline)) void spin(int turns) {
	for (int i = 0; i < turns * 1000; i++)
		work += i;
}

__attribute__((noinline)) void hot(void) {
	spin(60);
}

__attribute__((noinline)) void warm(void) {
	spin(30);
}

__attribute__((noinline)) void cold(void) {
	spin(10);
}

int main(void) {
	for (;;) {
		hot();
		warm();
		cold();
	}
}
