; Counts 50 interrupts of the interval timer at 1 kHz, halted in between. Every HLT is an exit, and
; so is every port access of the handler: the end of the interrupt must not wait in a ring.
bits 16
org 0x7c00
    xor ax, ax
    mov ds, ax
    mov word [8 * 4], tick
    mov [8 * 4 + 2], ax
    mov si, controller
    mov cx, (end - controller) / 2
.next:
    lodsb
    xor dx, dx
    mov dl, al
    outsb
    loop .next
wait_for_ticks:
    sti
    hlt
    cli
    cmp byte [ticks], 50
    jb wait_for_ticks
    hlt                         ; with interrupts off: the end

tick:
    push ax
    inc byte [ticks]
    mov al, 0x20                ; end of interrupt
    out 0x20, al
    pop ax
    iret

controller:                     ; port, value
    db 0x20, 0x11               ; ICW1: edges, a second controller, ICW4
    db 0x21, 0x08               ; ICW2: interrupts 8 to 15
    db 0x21, 0x04               ; ICW3: the second controller at input 2
    db 0x21, 0x01               ; ICW4: 8086
    db 0x21, 0xfe               ; the timer alone
    db 0x43, 0x34               ; counter 0, both bytes, mode 2
    db 0x40, 1193 & 0xff
    db 0x40, 1193 >> 8
end:
ticks:
    db 0

times 510 - ($ - $$) db 0
    dw 0xaa55
