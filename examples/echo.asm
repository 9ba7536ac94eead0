; Echoes what comes over the serial line until a full stop, polling: two exits for each byte that is
; sent, the read of LSR and the write of THR, and one for each look at LSR while nothing comes.
bits 16
org 0x7c00
    xor ax, ax
    mov ds, ax
    mov dx, 0x3f8 + 2           ; FCR: the FIFOs on, and empty
    mov al, 0x07
    out dx, al
    mov si, prompt
.prompt:
    lodsb
    test al, al
    jz receive
    call send
    jmp .prompt
receive:
    mov dx, 0x3f8 + 5           ; LSR
    in al, dx
    test al, 0x01               ; data ready
    jz receive
    mov dl, 0xf8
    in al, dx
    call send
    cmp al, '.'
    jne receive
    cli
    hlt

send:                           ; AL; changes AH, DX
    mov ah, al
    mov dx, 0x3f8 + 5
.wait:
    in al, dx
    test al, 0x20               ; the transmitter takes a byte
    jz .wait
    mov al, ah
    mov dl, 0xf8
    out dx, al
    ret

prompt:
    db "Type, and end with a full stop: ", 0

times 510 - ($ - $$) db 0
    dw 0xaa55
